// data/tokenizer/unicode_gap.h: what differs between the Unicode tables of PCRE2 10.42 (version 14)
// and utf8proc and those of the Hugging Face library `tokenizers` 0.22 to 0.23 (Oniguruma with
// version 16 for patterns, version 9 for normalisation). With these corrections every code point
// falls on the same side of every split. They leave a newer PCRE2 or utf8proc as right as an old
// one. Pure functions; text is well-formed UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace strait {

// The text a pattern is matched against: `text` itself, or, when it holds code points PCRE2 would
// take for another category, a copy in `storage` with stand-ins of the same length, so that offsets
// stay.
std::string_view as_patterns_see(std::string_view text, std::string& storage);

// Offset of the next code point that normalisation leaves alone and does not look past, or
// text.size().
size_t next_unknown_to_normalizer(std::string_view text, size_t from);

}  // namespace strait
