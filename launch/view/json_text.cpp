#include "launch/view/json_text.h"

#include <fmt/format.h>

#include <cmath>

#include "core/errors.h"
#include "data/tokenizer/utf8.h"

namespace strait {

std::string json_quoted(std::string_view text) {
  std::string quoted = "\"";
  char last = 0;
  for (const char c : with_replacements(text)) {
    if (c == '"' || c == '\\' || (c == '/' && last == '<')) quoted += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      quoted += fmt::format("\\u{:04x}", static_cast<int>(c));
    } else {
      quoted += c;
    }
    last = c;
  }
  return quoted + '"';
}

std::string json_number(double value) {
  STRAIT_CHECK(std::isfinite(value), fmt::format("JSON has no {}", value));
  return fmt::format("{}", value);
}

}  // namespace strait
