#include "recipes/recipe.h"

#include <fmt/format.h>

#include <filesystem>

#include "data/tokenizer/utf8.h"
#include "parallel/pipeline/schedule_file.h"
#include "recipes/check.h"
#include "recipes/document.h"
#include "recipes/reader.h"
#include "recipes/yaml_tree.h"

namespace strait {
namespace {

namespace fs = std::filesystem;

const DocumentKind kRecipe = {.noun = "recipe", .content = "sections like 'model:'"};

void set_places(YamlNode& node, const std::string& place) {
  node.place = place;
  for (YamlNode& child : node.children) set_places(child, place);
}

// "a.b=c" -> {a: {b: c}}, put on the tree.
void add_override(Document& draft, const std::string& text) {
  const std::string place = "--set " + text;
  if (first_invalid_utf8(text) >= 0) {
    add_problem(draft.problems, "--set " + with_replacements(text), "not UTF-8");
    return;
  }
  const size_t equals = text.find('=');
  const std::string key = text.substr(0, equals);
  if (equals == std::string::npos || key.empty() || key.front() == '.' || key.back() == '.' ||
      key.find("..") != std::string::npos) {
    add_problem(draft.problems, place, "expected section.key=value");
    return;
  }
  const std::string value = text.substr(equals + 1);
  YamlNode node{.kind = YamlNode::Kind::scalar, .text = value};
  if (value.empty()) {
    node.kind = YamlNode::Kind::nothing;
  } else if (std::string("[{\"'").find(value[0]) != std::string::npos) {
    Problems problems;
    std::optional<YamlNode> parsed = parse_yaml(value, "", kRecipe.noun, problems);
    for (const std::string& problem : problems)  // without its line and column in the value
      add_problem(draft.problems, place, problem.substr(problem.find(": ") + 2));
    if (!parsed) return;
    node = std::move(*parsed);
  }
  for (size_t end = key.size(); end != std::string::npos;) {  // from the last word to the first
    const size_t dot = end == 0 ? std::string::npos : key.rfind('.', end - 1);
    node.key = key.substr(dot == std::string::npos ? 0 : dot + 1,
                          dot == std::string::npos ? end : end - dot - 1);
    YamlNode outer{.kind = YamlNode::Kind::map};
    outer.children.push_back(std::move(node));
    node = std::move(outer);
    end = dot;
  }
  set_places(node, place);
  merge_yaml(draft.tree, node);
}

// A schedule's file is relative to the recipe that names it, on the command line to where we are.
void resolve_schedule_file(Recipe& recipe) {
  std::string& schedule = recipe.parallel.schedule;
  const std::string place = recipe.places.of("parallel.schedule");  // "recipes/x.yaml:17"
  if (!is_file_schedule(schedule) || place.starts_with("--set ")) return;
  const fs::path folder = fs::path(place.substr(0, place.rfind(':'))).parent_path();
  const fs::path path = folder / schedule.substr(kFileSchedule.size());
  schedule = std::string(kFileSchedule) + path.lexically_normal().string();
}

Recipe finish(Document draft, const std::string& name, const std::vector<std::string>& overrides) {
  if (draft.tree.kind != YamlNode::Kind::map) draft.tree = {.kind = YamlNode::Kind::map};
  for (const std::string& text : overrides) add_override(draft, text);
  Recipe recipe;
  recipe.places.file = name;
  read_settings(draft.tree, draft.incomplete, {&recipe, &table_of(&recipe)},
                {.places = recipe.places, .problems = draft.problems});
  if (recipe.run.name.empty()) recipe.run.name = fs::path(name).stem().string();
  resolve_schedule_file(recipe);
  if (draft.problems.empty()) check_recipe(recipe, draft.problems);
  if (!draft.problems.empty()) throw_problems(std::move(draft.problems));
  return recipe;
}

}  // namespace

const SettingsTable& table_of(const Recipe*) {
  static const SettingsTable table = {
      {.name = "model",
       .value = value_of<&Recipe::model>,
       .doc = "Sizes and choices of the model, in the words of Hugging Face's config.json."},
      {.name = "objective", .value = value_of<&Recipe::objective>, .doc = "What is learnt."},
      {.name = "mtp", .value = value_of<&Recipe::mtp>, .doc = "Multi-token prediction."},
      {.name = "balance",
       .value = value_of<&Recipe::balance>,
       .doc = "How the experts' load is kept even."},
      {.name = "optimizer",
       .value = value_of<&Recipe::optimizer>,
       .doc = "The update of the weights."},
      {.name = "schedule",
       .value = value_of<&Recipe::schedule>,
       .doc = "The learning rate's course."},
      {.name = "train",
       .value = value_of<&Recipe::train>,
       .doc = "Length, batch, precision and rhythm of the run."},
      {.name = "formats",
       .value = value_of<&Recipe::formats>,
       .doc = "Where single roles differ from train.precision."},
      {.name = "data", .value = value_of<&Recipe::data>, .doc = "The text to train on."},
      {.name = "parallel",
       .value = value_of<&Recipe::parallel>,
       .doc = "How ranks share the work. Their number comes from the launcher (mpirun -np)."},
      {.name = "run", .value = value_of<&Recipe::run>, .doc = "Where the run's files go."},
  };
  return table;
}

Recipe load_recipe(const std::string& path, const std::vector<std::string>& overrides) {
  return finish(load_document(path, kRecipe), path, overrides);
}

Recipe read_recipe(const std::string& text, const std::string& name,
                   const std::vector<std::string>& overrides) {
  return finish(read_document(text, name, kRecipe), name, overrides);
}

}  // namespace strait
