#include "launch/trainer/start_weights.h"

#include <fmt/format.h>

#include "data/huggingface/config_json.h"
#include "launch/trainer/agree.h"
#include "launch/trainer/model_source.h"
#include "launch/trainer/state.h"
#include "parallel/shard/layout.h"

namespace strait {
namespace {

// Keys of settings that may differ: what values begin with, and how many positions are allowed.
// Where the source has an MTP module and the recipe has none, it is left out.
void require_same_architecture(const ModelSettings& wanted, ModelSettings source,
                               const std::string& where) {
  source.initializer_range = wanted.initializer_range;
  source.max_position_embeddings = wanted.max_position_embeddings;
  source.num_nextn_predict_layers = wanted.num_nextn_predict_layers;
  const auto described = [](const ModelSettings& settings) {
    return describe_model(settings, huggingface::to_config_json(settings, {}, DType::f32));
  };
  try {
    checkpoint::require_same_model(described(source), described(wanted), where);
  } catch (const DataError& error) {
    throw RecipeError(fmt::format("train.start_from: {}", error.what()));
  }
}

bool is_of_mtp(const ModelSettings& settings, const std::string& name) {
  for (int64_t i = 0; i < settings.num_nextn_predict_layers; ++i)
    if (name.starts_with(fmt::format("model.layers.{}.", settings.num_hidden_layers + i)))
      return true;
  return false;
}

}  // namespace

std::string load_start_weights(Engine& engine, Comm& comm, const Recipe& recipe) {
  std::string text;
  together(comm, [&] {
    ModelSource source(recipe.train.start_from);
    require_same_architecture(recipe.model, source.settings(), source.path());
    const bool lacks_mtp =
        source.settings().num_nextn_predict_layers < recipe.model.num_nextn_predict_layers;
    constexpr StateKind kMaster[] = {StateKind::master};
    std::vector<StatePiece> pieces = pieces_of(engine.buckets(), kMaster);
    if (recipe.model.topk_method == "noaux_tc")
      for (StatePiece& piece : bias_pieces(engine.model(), engine.selection_bias()))
        pieces.push_back(std::move(piece));
    for (const StatePiece& piece : pieces) {
      if (lacks_mtp && is_of_mtp(recipe.model, piece.name)) continue;
      source.read(piece.name, piece.offset,
                  {reinterpret_cast<float*>(piece.values), static_cast<size_t>(piece.count)});
    }
    text = fmt::format("weights of {}{}", source.path(),
                       lacks_mtp ? ", which has no MTP module: that one starts anew" : "");
  });
  engine.load_weights();
  return text;
}

}  // namespace strait
