// recipes/yaml_tree.h: YAML text as a plain tree in which every node knows where it was written.
// What YAML libraries pass over in silence is a problem here: doubled keys, anchors, tags, a second
// document.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace strait {

// What is wrong with a file, each with its place; all of it is reported at once.
using Problems = std::vector<std::string>;
inline void add_problem(Problems& problems, const std::string& place, const std::string& text) {
  problems.push_back(place + ": " + text);
}

struct YamlNode {
  enum class Kind { nothing, scalar, list, map };
  Kind kind = Kind::nothing;
  std::string key = {};    // of an entry of a map
  std::string place = {};  // "recipes/x.yaml:17": of the key if it has one, else of the value
  std::string text = {};   // scalar
  bool quoted = false;
  std::vector<YamlNode> children = {};  // list: its items; map: its entries in their order

  const YamlNode* find(const std::string& wanted_key) const;  // in a map; null: not there
  YamlNode* find(const std::string& wanted_key);
};

// A text as messages show it: at most 60 bytes.
std::string shortened(const std::string& text);

// "a mapping", "a list", "nothing", "'abc'": for messages.
std::string describe(const YamlNode& node);

// The tree of the text. `name` stands for the file in places and problems, `kind` ("recipe") for
// what it is. Where the text is not YAML, not UTF-8 or not one document, that is the only problem,
// and there is no tree: what was read before may mean something else than it seems.
std::optional<YamlNode> parse_yaml(const std::string& text, const std::string& name,
                                   const std::string& kind, Problems& problems);

// Puts `over` on `base`: mappings merge key by key, anything else replaces.
void merge_yaml(YamlNode& base, const YamlNode& over);

}  // namespace strait
