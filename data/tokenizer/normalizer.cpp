#include "data/tokenizer/normalizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <span>

#include "core/errors.h"
#include "data/tokenizer/unicode_gap.h"
#include "data/tokenizer/utf8.h"

namespace strait {
namespace {

// Code points above ASCII that have combining class 0 and that NFC leaves alone whatever stands
// beside them, as long as that is in the list too.
struct Range {
  char32_t first, last;
};
constexpr Range kInertInNfc[] = {
    {0x80, 0x2FF},    {0x400, 0x482},   {0x2010, 0x2027}, {0x2030, 0x205E}, {0x3000, 0x3029},
    {0x3030, 0x3098}, {0x309B, 0xA48C}, {0xAC00, 0xD7A3}, {0xFF00, 0xFFEF}, {0x1F300, 0x1FAFF}};
constexpr Range kInertInOthers[] = {{0x4E00, 0x9FFF}};  // Han ideographs

// True when the form certainly leaves `text` alone.
bool is_inert(std::string_view text, NormalForm form) {
  const std::span<const Range> inert = form == NormalForm::nfc
                                           ? std::span<const Range>(kInertInNfc)
                                           : std::span<const Range>(kInertInOthers);
  for (size_t at = 0; at < text.size();) {
    if (static_cast<uint8_t>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const CodePoint next = code_point_at(text, at);
    const bool known = std::ranges::any_of(inert, [&](const Range& range) {
      return range.first <= next.value && next.value <= range.last;
    });
    if (!known) return false;
    at += static_cast<size_t>(next.num_bytes);
  }
  return true;
}

void append_normalized(std::string_view text, NormalForm form, std::string& to) {
  if (text.empty()) return;
  int options = UTF8PROC_STABLE;
  options |=
      form == NormalForm::nfc || form == NormalForm::nfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::nfkc || form == NormalForm::nfkd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                             static_cast<utf8proc_option_t>(options));
  if (size < 0) throw DataError(fmt::format("normalising text: {}", utf8proc_errmsg(size)));
  to.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
  std::free(mapped);
}

// A line end neither composes nor reorders, so lines normalise on their own.
void append_line(std::string_view line, NormalForm form, std::string& to) {
  if (is_inert(line, form)) {
    to.append(line);
    return;
  }
  for (size_t at = 0; at < line.size();) {
    const size_t unknown = next_unknown_to_normalizer(line, at);
    append_normalized(line.substr(at, unknown - at), form, to);
    if (unknown == line.size()) break;
    const auto length = static_cast<size_t>(code_point_at(line, unknown).num_bytes);
    to.append(line, unknown, length);
    at = unknown + length;
  }
}

}  // namespace

std::string_view Normalizer::apply(std::string_view text, std::string& storage) const {
  std::string_view current = text;
  for (const NormalForm form : forms_) {
    if (is_inert(current, form)) continue;
    std::string result;
    result.reserve(current.size() + current.size() / 16);
    for (size_t at = 0; at < current.size();) {
      const size_t end = std::min(current.find('\n', at), current.size() - 1) + 1;
      append_line(current.substr(at, end - at), form, result);
      at = end;
    }
    storage.swap(result);
    current = storage;
  }
  return current;
}

}  // namespace strait
