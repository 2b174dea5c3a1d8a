// data/corpus/json_lines.h: the JSON a corpus is made from and described by. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace strait {

// The string in the field "text" of the object in `line`. Throws DataError, beginning with `where`,
// when the line is not that. REQUIRES: `line` is well-formed UTF-8.
std::string text_of_json_line(std::string_view line, const std::string& where);

struct InputRecord {
  std::string path;
  int64_t num_bytes = 0;
  std::string xxh3;
  int64_t num_documents = 0;
};
// For CorpusInfo::inputs_json.
std::string json_of(const std::vector<InputRecord>& inputs);

}  // namespace strait
