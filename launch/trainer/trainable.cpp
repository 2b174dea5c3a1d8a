#include "launch/trainer/trainable.h"

#include "core/errors.h"
#include "data/huggingface/config_json.h"
#include "recipes/check.h"

namespace strait {

void require_trainable(const Recipe& recipe, int64_t ranks) {
  if (const std::string why = huggingface::why_not_exportable(recipe.model); !why.empty())
    throw RecipeError(recipe.places.of("model.scoring_func") + ": " + why);
  if (ranks > 0) check_layout(recipe, ranks);
}

}  // namespace strait
