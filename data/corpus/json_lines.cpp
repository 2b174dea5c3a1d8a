#include "data/corpus/json_lines.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "data/tokenizer/utf8.h"

namespace strait {
namespace {

using Json = nlohmann::ordered_json;

// The reason alone, of "[json.exception.parse_error.101] parse error at line 1, column 9: reason".
std::string reason_of(const Json::parse_error& error) {
  const std::string text = error.what();
  const size_t colon = text.find(": ");
  return colon == std::string::npos ? text : text.substr(colon + 2);
}

}  // namespace

std::string text_of_json_line(std::string_view line, const std::string& where) {
  Json object;
  try {
    object = Json::parse(line);
  } catch (const Json::parse_error& error) {
    throw DataError(fmt::format("{}: not JSON at byte {} of the line: {}", where, error.byte,
                                reason_of(error)));
  }
  if (!object.is_object())
    throw DataError(fmt::format("{}: expected an object with a field \"text\", got {}", where,
                                object.type_name()));
  const auto text = object.find("text");
  if (text == object.end()) throw DataError(fmt::format("{}: has no field \"text\"", where));
  if (!text->is_string())
    throw DataError(fmt::format("{}: expected a string in the field \"text\", got {}", where,
                                text->type_name()));
  return std::move(text->get_ref<std::string&>());
}

std::string json_of(const std::vector<InputRecord>& inputs) {
  Json list = Json::array();
  for (const InputRecord& input : inputs)
    list.push_back({{"path", with_replacements(input.path)},
                    {"bytes", input.num_bytes},
                    {"xxh3", input.xxh3},
                    {"documents", input.num_documents}});
  return list.dump();
}

}  // namespace strait
