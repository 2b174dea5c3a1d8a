// data/tokenizer/added_tokens.h: tokens that are cut out of the text before anything else sees it
// ("<|endoftext|>"), as the added vocabulary of `tokenizers` does. Immutable, thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace strait {

struct AddedToken {
  int32_t id = 0;
  std::string content{};
  bool special = false;      // decode() can leave it out
  bool single_word = false;  // only where no letter, mark or digit touches it
  bool lstrip = false;       // takes in the white space before it
  bool rstrip = false;       // and after it
  bool normalized = false;   // looked for in the normalised text
};

class AddedTokenFinder {
 public:
  // `tokens` with the text to look for, which is their content or its normalised form.
  explicit AddedTokenFinder(std::vector<std::pair<AddedToken, std::string>> tokens);

  // Calls plain(part) and token(id) in order for the parts of `text`; parts are not empty. Of the
  // tokens that begin at one place the longest is found; the leftmost place first.
  void split(std::string_view text, const std::function<void(std::string_view)>& plain,
             const std::function<void(int32_t)>& token) const;

 private:
  struct Node {
    std::vector<std::pair<uint8_t, int32_t>> children;  // sorted by byte
    int32_t token = -1;                                 // index into tokens_
  };
  // Bytes of the longest token at text[at] (0: none) and its index.
  size_t longest_at(std::string_view text, size_t at, int32_t& token) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  bool begins_token_[256] = {};
};

}  // namespace strait
