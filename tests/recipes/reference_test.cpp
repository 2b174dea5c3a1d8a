#include "recipes/reference.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "core/errors.h"
#include "recipes/recipe.h"

namespace strait {
namespace {

// STRAIT_UPDATE_REFERENCE=1 in the environment rewrites the page first.
TEST(Reference, ThePageIsUpToDate) {
  const std::string path = STRAIT_RECIPES "/REFERENCE.md";
  if (std::getenv("STRAIT_UPDATE_REFERENCE") != nullptr)
    std::ofstream(path) << reference_markdown();
  std::ostringstream page;
  page << std::ifstream(path).rdbuf();
  EXPECT_EQ(page.str(), reference_markdown())
      << "run reference_test once with STRAIT_UPDATE_REFERENCE=1 and commit recipes/REFERENCE.md";
}

void check_table(const SettingsRef& section, const std::string& name) {
  std::set<std::string> names;
  for (const Field& field : *section.table) {
    SCOPED_TRACE(name + "." + field.name);
    EXPECT_TRUE(names.insert(field.name).second) << "twice in its table";
    const std::string doc = field.doc;
    EXPECT_GT(doc.size(), 5u);
    EXPECT_EQ(doc.back(), '.');
    EXPECT_EQ(doc.find_first_of("\n|"), std::string::npos);
    const FieldValue value = field.value(section.settings);
    if (const auto* inner = std::get_if<SettingsRef>(&value)) check_table(*inner, field.name);
    if (const auto* list = std::get_if<SettingsListRef>(&value))
      check_table(list->append(list->list), field.name);
    if (field.required) continue;
    // Defaults keep their own rules.
    if (const auto* integer = std::get_if<int64_t*>(&value)) {
      EXPECT_TRUE(field.range.contains(static_cast<double>(**integer)));
    } else if (const auto* real = std::get_if<double*>(&value)) {
      EXPECT_TRUE(field.range.contains(**real));
    } else if (const auto* text = std::get_if<std::string*>(&value);
               text && !field.choices.empty()) {
      EXPECT_EQ(std::count(field.choices.begin(), field.choices.end(), **text), 1);
    }
  }
}

TEST(Reference, TablesAreWhole) {
  Recipe recipe;
  check_table({&recipe, &table_of(&recipe)}, "recipe");
}

TEST(Reference, ExplainsOneKey) {
  EXPECT_EQ(explain("train.steps"),
            "train.steps: Updates of the weights in the whole run.\n"
            "  whole number, in steps; at least 1, at most 1e+12; required\n");
  EXPECT_EQ(
      explain("train.precision"),
      "train.precision: Of activations and of the weights that multiply them. Master weights, "
      "gradients and sums are FP32 in all of them. fp8: what linear layers multiply and what "
      "waits for the backward pass; embedding, head, router, norms and attention itself stay "
      "BF16 or FP32. Section formats sets single roles.\n"
      "  text; of fp32, bf16, fp8; default bf16\n");
  EXPECT_EQ(explain("data.corpus"),
            "data.corpus: The folder `strait data prepare --out` made, relative to where strait is "
            "started.\n"
            "  text; required\n");
}

TEST(Reference, ExplainsSections) {
  EXPECT_EQ(explain("mtp"),
            "mtp: Multi-token prediction.\n"
            "mtp.loss_weight: Weight of the multi-token-prediction loss in the whole.\n"
            "  number; at least 0, at most 10; default 0.3\n");
  const std::string sections = explain("");
  for (const Field& field : table_of(static_cast<const Recipe*>(nullptr)))
    EXPECT_NE(sections.find(std::string(field.name) + ": " + field.doc), std::string::npos);
  EXPECT_NE(explain("schedule.stages").find("schedule.stages[].shape: "), std::string::npos);
}

TEST(Reference, UnknownKeysAreToldTheClosest) {
  const auto problem = [](const std::string& key) -> std::string {
    try {
      return explain(key);
    } catch (const RecipeError& error) {
      return error.what();
    }
  };
  EXPECT_EQ(problem("model.hiden_size"),
            "unknown key 'model.hiden_size'; did you mean 'model.hidden_size'?");
  EXPECT_EQ(problem("hidden_size"), "unknown key 'hidden_size'; did you mean 'model.hidden_size'?");
  EXPECT_EQ(problem("zzz"), "unknown key 'zzz'");
}

}  // namespace
}  // namespace strait
