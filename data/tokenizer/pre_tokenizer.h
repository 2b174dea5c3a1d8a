// data/tokenizer/pre_tokenizer.h: cuts text into the words BPE works on: a list of splits, applied
// in order to the pieces of the one before, as `tokenizers` does. Immutable and thread-safe; a
// Matcher belongs to one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/pattern.h"

namespace strait {

// What becomes of the parts that match a pattern (of the others, with `invert`).
enum class SplitBehavior : uint8_t {
  isolated,              // each is a piece
  removed,               // dropped
  merged_with_previous,  // joins the part before it
  merged_with_next,      // joins the part after it
  contiguous,            // neighbours that match become one piece
};

struct SplitStage {
  Pattern pattern;
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;
  bool space_before = false;  // first put a space before a piece that does not begin with one
  bool splits = true;         // false: only space_before
};

class PreTokenizer {
 public:
  explicit PreTokenizer(std::vector<SplitStage> stages) : stages_(std::move(stages)) {}

  // Calls word(bytes) for every word of `text` in order; the view lives until the call returns.
  // REQUIRES: `text` is well-formed UTF-8.
  void split(std::string_view text, Matcher& matcher,
             const std::function<void(std::string_view)>& word) const;

 private:
  std::vector<SplitStage> stages_;
};

// The pattern of a ByteLevel pre-tokenizer with use_regex (GPT-2's).
extern const char* const kByteLevelPattern;

}  // namespace strait
