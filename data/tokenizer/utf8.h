// data/tokenizer/utf8.h: UTF-8 by hand, and the byte-level alphabet of GPT-2. Pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace strait {

// Offset of the first byte that is not well-formed UTF-8 (overlong forms, surrogates and values
// above U+10FFFF are not), or -1.
int64_t first_invalid_utf8(std::string_view text);
// What a message about text that is not well-formed UTF-8 says after the file's name and a colon:
// "22: not UTF-8: byte 0xe9 at offset 1003" (line, byte, offset). Empty for well-formed text.
std::string utf8_problem(std::string_view text);
// Throws DataError "<name>:<utf8_problem>".
void require_utf8(std::string_view text, const std::string& name = "text");

struct CodePoint {
  char32_t value = 0;
  int num_bytes = 1;
};
// REQUIRES: text[at] starts a code point of well-formed UTF-8.
CodePoint code_point_at(std::string_view text, size_t at);
void append_utf8(char32_t code_point, std::string& to);

// Bytes at the end of `text` that begin a code point but do not finish it (0 to 3).
size_t incomplete_suffix(std::string_view text);

// `bytes` with every ill-formed part replaced by U+FFFD, one for each maximal part that could have
// begun a code point (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal Subparts").
std::string with_replacements(std::string_view bytes);

// Byte-level BPE writes each byte as one printable character: 33-126, 161-172 and 174-255 as
// themselves, the other 68 bytes in order as U+0100, U+0101, ...   Source: Radford et al.,
// "Language Models are Unsupervised Multitask Learners", 2019, section 2.2, and the code released
// with it.
const std::array<char32_t, 256>& byte_alphabet();

// The bytes a byte-level token stands for, or false when a character is not of the alphabet.
bool bytes_of_byte_level(std::string_view token, std::string& bytes);
std::string byte_level_of_bytes(std::string_view bytes);

}  // namespace strait
