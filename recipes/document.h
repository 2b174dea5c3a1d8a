// recipes/document.h: a YAML file together with the files it extends, as one tree.
#pragma once

#include <string>

#include "recipes/yaml_tree.h"

namespace strait {

// What the file is, for messages.
struct DocumentKind {
  std::string noun;     // "recipe"
  std::string content;  // what its top level holds: "sections like 'model:'"
  // Whether mappings of an extended file merge key by key at every depth. false: an entry of the
  // top level replaces the extended file's whole entry (a figure does not take over the source of
  // another).
  bool merges_sections = true;
};

struct Document {
  YamlNode tree;
  bool incomplete = false;  // something could not be read: what seems missing may be there
  Problems problems;
};

// Reads the file and the files it extends (`extends: other.yaml`, relative to the file). What is
// wrong is in `problems`.
// Errors: RecipeError when the file itself cannot be read.
Document load_document(const std::string& path, const DocumentKind& kind);

// The same from text. `name` stands for the file in messages; `extends` is relative to its folder.
Document read_document(const std::string& text, const std::string& name, const DocumentKind& kind);

// Throws RecipeError with all of them, one a line; of a text that is no such document at all the
// first ones are enough.
[[noreturn]] void throw_problems(Problems problems);

}  // namespace strait
