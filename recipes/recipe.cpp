#include "recipes/recipe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "core/errors.h"
#include "data/tokenizer/utf8.h"
#include "recipes/check.h"
#include "recipes/reader.h"
#include "recipes/yaml_tree.h"

namespace strait {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxRecipeBytes = 1 << 20;
constexpr size_t kMaxProblems = 40;

// A recipe while it is put together from its files and overrides.
struct Draft {
  YamlNode tree;
  bool incomplete = false;  // something could not be read: what seems missing may be there
  Problems problems;
};

std::optional<std::string> read_file(const std::string& path, const std::string& place,
                                     Problems& problems) {
  const auto refuse = [&](const std::string& why) {
    add_problem(problems, place,
                place == path ? "cannot be read: " + why
                              : fmt::format("cannot read recipe {}: {}", path, why));
    return std::nullopt;
  };
  std::error_code error;
  if (fs::is_directory(path, error)) return refuse("it is a folder");
  std::ifstream file(path, std::ios::binary);
  if (!file) return refuse(std::strerror(errno));
  std::string text(kMaxRecipeBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxRecipeBytes)
    return refuse(fmt::format("more than {} bytes", kMaxRecipeBytes));
  return text;
}

void add_text(Draft& draft, const std::string& text, const std::string& name,
              std::vector<std::string> chain);

// Puts the recipe that `extends` names under the tree built from it. chain: the files that led
// here.
void add_extended(Draft& draft, const YamlNode& extends, const std::string& name,
                  const std::vector<std::string>& chain) {
  const auto problem = [&](const std::string& text) {
    add_problem(draft.problems, extends.place, text);
    draft.incomplete = true;
  };
  if (extends.kind != YamlNode::Kind::scalar)
    return problem("extends: expected a file's name, got " + describe(extends));
  const std::string path =
      (fs::path(name).parent_path() / extends.text).lexically_normal().string();
  if (std::find(chain.begin(), chain.end(), path) != chain.end())
    return problem(fmt::format("extends: the recipes extend each other in a circle: {} -> {}",
                               fmt::join(chain, " -> "), path));
  if (const auto text = read_file(path, extends.place, draft.problems)) {
    add_text(draft, *text, path, chain);
  } else {
    draft.incomplete = true;
  }
}

void add_text(Draft& draft, const std::string& text, const std::string& name,
              std::vector<std::string> chain) {
  chain.push_back(fs::path(name).lexically_normal().string());
  std::optional<YamlNode> parsed = parse_yaml(text, name, draft.problems);
  if (parsed && parsed->kind != YamlNode::Kind::map)
    add_problem(
        draft.problems, parsed->place.empty() ? name : parsed->place,
        fmt::format("expected a mapping with sections like 'model:', got {}", describe(*parsed)));
  if (!parsed || parsed->kind != YamlNode::Kind::map) {
    draft.incomplete = true;
    return;
  }
  YamlNode& tree = *parsed;
  if (const YamlNode* extends = tree.find("extends")) {
    add_extended(draft, *extends, name, chain);
    std::erase_if(tree.children, [](const YamlNode& child) { return child.key == "extends"; });
  }
  if (draft.tree.kind == YamlNode::Kind::nothing) {
    draft.tree = std::move(tree);
  } else {
    merge_yaml(draft.tree, tree);
  }
}

void set_places(YamlNode& node, const std::string& place) {
  node.place = place;
  for (YamlNode& child : node.children) set_places(child, place);
}

// "a.b=c" -> {a: {b: c}}, put on the tree.
void add_override(Draft& draft, const std::string& text) {
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
    std::optional<YamlNode> parsed = parse_yaml(value, "", problems);
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

// All of them, one a line; of a text that is no recipe at all the first ones are enough.
[[noreturn]] void throw_problems(Problems problems) {
  if (problems.size() > kMaxProblems) {
    const size_t more = problems.size() - kMaxProblems;
    problems.resize(kMaxProblems);
    problems.push_back(fmt::format("and {} more", more));
  }
  throw RecipeError(fmt::format("{}", fmt::join(problems, "\n")));
}

Recipe finish(Draft draft, const std::string& name, const std::vector<std::string>& overrides) {
  if (draft.tree.kind != YamlNode::Kind::map) draft.tree = {.kind = YamlNode::Kind::map};
  for (const std::string& text : overrides) add_override(draft, text);
  Recipe recipe;
  recipe.places.file = name;
  read_settings(draft.tree, draft.incomplete, recipe, draft.problems);
  if (recipe.run.name.empty()) recipe.run.name = fs::path(name).stem().string();
  if (draft.problems.empty()) check_recipe(recipe, draft.problems);
  if (!draft.problems.empty()) throw_problems(std::move(draft.problems));
  return recipe;
}

}  // namespace

std::string KeyPlaces::of(const std::string& key) const {
  for (std::string inner = key; !inner.empty();) {
    if (const auto found = at.find(inner); found != at.end()) return found->second;
    const size_t end = inner.find_last_of(".[");
    inner.resize(end == std::string::npos ? 0 : end);
  }
  return file.empty() ? "recipe" : file;
}

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
      {.name = "data", .value = value_of<&Recipe::data>, .doc = "The text to train on."},
      {.name = "parallel",
       .value = value_of<&Recipe::parallel>,
       .doc = "How ranks share the work. Their number comes from the launcher (mpirun -np)."},
      {.name = "run", .value = value_of<&Recipe::run>, .doc = "Where the run's files go."},
  };
  return table;
}

Recipe load_recipe(const std::string& path, const std::vector<std::string>& overrides) {
  Draft draft;
  const auto text = read_file(path, path, draft.problems);
  if (!text) throw RecipeError(draft.problems.front());
  add_text(draft, *text, path, {});
  return finish(std::move(draft), path, overrides);
}

Recipe read_recipe(const std::string& text, const std::string& name,
                   const std::vector<std::string>& overrides) {
  Draft draft;
  add_text(draft, text, name, {});
  return finish(std::move(draft), name, overrides);
}

}  // namespace strait
