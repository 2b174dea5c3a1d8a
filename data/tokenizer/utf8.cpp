#include "data/tokenizer/utf8.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/errors.h"

namespace strait {
namespace {

// Length of the well-formed code point at text[at]; 0 when ill-formed. `seen`: bytes of it that
// could begin one.
int well_formed(std::string_view text, size_t at, size_t& seen) {
  const auto byte = [&](size_t offset) { return static_cast<uint8_t>(text[at + offset]); };
  const uint8_t lead = byte(0);
  seen = 1;
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  for (; seen < static_cast<size_t>(length); ++seen) {
    if (at + seen >= text.size()) return 0;
    uint8_t low = 0x80, high = 0xBF;
    if (seen == 1 && lead == 0xE0) low = 0xA0;
    if (seen == 1 && lead == 0xED) high = 0x9F;
    if (seen == 1 && lead == 0xF0) low = 0x90;
    if (seen == 1 && lead == 0xF4) high = 0x8F;
    if (byte(seen) < low || byte(seen) > high) return 0;
  }
  return length;
}

struct Inverse {
  std::array<int16_t, 0x144> byte{};  // -1: not of the alphabet
};

Inverse make_inverse() {
  Inverse inverse;
  inverse.byte.fill(-1);
  for (size_t byte = 0; byte < 256; ++byte)
    inverse.byte[byte_alphabet()[byte]] = static_cast<int16_t>(byte);
  return inverse;
}

}  // namespace

int64_t first_invalid_utf8(std::string_view text) {
  size_t at = 0, seen = 0;
  while (at < text.size()) {
    uint64_t eight;
    if (at + 8 <= text.size()) {
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & 0x8080808080808080U) == 0) {
        at += 8;
        continue;
      }
    }
    const int length = well_formed(text, at, seen);
    if (length == 0) return static_cast<int64_t>(at);
    at += static_cast<size_t>(length);
  }
  return -1;
}

std::string utf8_problem(std::string_view text) {
  const int64_t bad = first_invalid_utf8(text);
  if (bad < 0) return {};
  const bool utf16 = text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF");
  return fmt::format("{}: not UTF-8: byte 0x{:02x} at offset {}{}",
                     1 + std::count(text.begin(), text.begin() + bad, '\n'),
                     static_cast<uint8_t>(text[static_cast<size_t>(bad)]), bad,
                     utf16 ? "; it looks like UTF-16" : "");
}

void require_utf8(std::string_view text, const std::string& name) {
  if (const std::string problem = utf8_problem(text); !problem.empty())
    throw DataError(name + ":" + problem);
}

CodePoint code_point_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t offset) -> char32_t {
    return static_cast<uint8_t>(text[at + offset]);
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F),
          4};
}

void append_utf8(char32_t code_point, std::string& to) {
  const auto put = [&](char32_t byte) { to.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

size_t incomplete_suffix(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<uint8_t>(text[text.size() - back]);
    if (byte < 0x80) return 0;
    if (byte < 0xC0) continue;
    size_t seen = 0;
    const int length = well_formed(text, text.size() - back, seen);
    return length == 0 && seen == back && byte >= 0xC2 && byte <= 0xF4 ? back : 0;
  }
  return 0;
}

std::string with_replacements(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    size_t seen = 0;
    const int length = well_formed(bytes, at, seen);
    if (length > 0)
      text.append(bytes, at, static_cast<size_t>(length));
    else
      text.append("\xEF\xBF\xBD");
    at += length > 0 ? static_cast<size_t>(length) : seen;
  }
  return text;
}

const std::array<char32_t, 256>& byte_alphabet() {
  static const std::array<char32_t, 256> alphabet = [] {
    std::array<char32_t, 256> made{};
    char32_t next = 0x100;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      made[byte] = printable ? byte : next++;
    }
    return made;
  }();
  return alphabet;
}

bool bytes_of_byte_level(std::string_view token, std::string& bytes) {
  static const Inverse inverse = make_inverse();
  bytes.clear();
  for (size_t at = 0; at < token.size();) {
    const CodePoint next = code_point_at(token, at);
    if (next.value >= inverse.byte.size() || inverse.byte[next.value] < 0) return false;
    bytes.push_back(static_cast<char>(inverse.byte[next.value]));
    at += static_cast<size_t>(next.num_bytes);
  }
  return true;
}

std::string byte_level_of_bytes(std::string_view bytes) {
  std::string token;
  for (const char byte : bytes) append_utf8(byte_alphabet()[static_cast<uint8_t>(byte)], token);
  return token;
}

}  // namespace strait
