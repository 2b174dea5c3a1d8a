#include "recipes/document.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#include "core/errors.h"

namespace strait {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxBytes = 1 << 20;
constexpr size_t kMaxProblems = 40;

// Adds files to the tree of one document.
class Assembler {
 public:
  Assembler(const DocumentKind& kind, Document& document) : kind_(kind), document_(document) {}

  std::optional<std::string> read_file(const std::string& path, const std::string& place) {
    std::error_code error;
    if (fs::is_directory(path, error)) return refuse(path, place, "it is a folder");
    std::ifstream file(path, std::ios::binary);
    if (!file) return refuse(path, place, std::strerror(errno));
    std::string text(kMaxBytes + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
    if (text.size() > kMaxBytes)
      return refuse(path, place, fmt::format("more than {} bytes", kMaxBytes));
    return text;
  }

  // chain: the files that led here.
  void add_text(const std::string& text, const std::string& name, std::vector<std::string> chain) {
    chain.push_back(fs::path(name).lexically_normal().string());
    std::optional<YamlNode> parsed = parse_yaml(text, name, kind_.noun, document_.problems);
    if (parsed && parsed->kind != YamlNode::Kind::map)
      add_problem(
          document_.problems, parsed->place.empty() ? name : parsed->place,
          fmt::format("expected a mapping with {}, got {}", kind_.content, describe(*parsed)));
    if (!parsed || parsed->kind != YamlNode::Kind::map) {
      document_.incomplete = true;
      return;
    }
    YamlNode& tree = *parsed;
    if (const YamlNode* extends = tree.find("extends")) {
      add_extended(*extends, name, chain);
      std::erase_if(tree.children, [](const YamlNode& child) { return child.key == "extends"; });
    }
    if (document_.tree.kind == YamlNode::Kind::nothing) {
      document_.tree = std::move(tree);
    } else if (kind_.merges_sections) {
      merge_yaml(document_.tree, tree);
    } else {
      for (const YamlNode& child : tree.children) {
        if (YamlNode* same = document_.tree.find(child.key)) {
          *same = child;
        } else {
          document_.tree.children.push_back(child);
        }
      }
    }
  }

 private:
  std::nullopt_t refuse(const std::string& path, const std::string& place, const std::string& why) {
    add_problem(document_.problems, place,
                place == path ? "cannot be read: " + why
                              : fmt::format("cannot read {} {}: {}", kind_.noun, path, why));
    return std::nullopt;
  }

  // Puts the file that `extends` names under the tree built from it.
  void add_extended(const YamlNode& extends, const std::string& name,
                    const std::vector<std::string>& chain) {
    const auto problem = [&](const std::string& text) {
      add_problem(document_.problems, extends.place, text);
      document_.incomplete = true;
    };
    if (extends.kind != YamlNode::Kind::scalar)
      return problem("extends: expected a file's name, got " + describe(extends));
    const std::string path =
        (fs::path(name).parent_path() / extends.text).lexically_normal().string();
    if (std::find(chain.begin(), chain.end(), path) != chain.end())
      return problem(fmt::format("extends: the {}s extend each other in a circle: {} -> {}",
                                 kind_.noun, fmt::join(chain, " -> "), path));
    if (const auto text = read_file(path, extends.place)) {
      add_text(*text, path, chain);
    } else {
      document_.incomplete = true;
    }
  }

  const DocumentKind& kind_;
  Document& document_;
};

}  // namespace

Document load_document(const std::string& path, const DocumentKind& kind) {
  Document document;
  Assembler assembler(kind, document);
  const auto text = assembler.read_file(path, path);
  if (!text) throw RecipeError(document.problems.front());
  assembler.add_text(*text, path, {});
  return document;
}

Document read_document(const std::string& text, const std::string& name, const DocumentKind& kind) {
  Document document;
  Assembler(kind, document).add_text(text, name, {});
  return document;
}

void throw_problems(Problems problems) {
  if (problems.size() > kMaxProblems) {
    const size_t more = problems.size() - kMaxProblems;
    problems.resize(kMaxProblems);
    problems.push_back(fmt::format("and {} more", more));
  }
  throw RecipeError(fmt::format("{}", fmt::join(problems, "\n")));
}

}  // namespace strait
