#include "data/tokenizer/added_tokens.h"

#include <utf8proc.h>

#include <algorithm>

#include "data/tokenizer/utf8.h"

namespace strait {
namespace {

bool is_space(char32_t value) {
  return (value >= 9 && value <= 13) || value == 0x20 || value == 0x85 || value == 0xA0 ||
         value == 0x1680 || (value >= 0x2000 && value <= 0x200A) || value == 0x2028 ||
         value == 0x2029 || value == 0x202F || value == 0x205F || value == 0x3000;
}

bool is_word(char32_t value) {
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(value));
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ND) ||
         category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_PC || value == 0x200C ||
         value == 0x200D;
}

// The start of the code point that ends at text[end - 1].
size_t previous_start(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<std::pair<AddedToken, std::string>> tokens)
    : nodes_(1) {
  for (auto& [token, pattern] : tokens) {
    if (pattern.empty()) continue;
    begins_token_[static_cast<uint8_t>(pattern[0])] = true;
    int32_t node = 0;
    for (const char character : pattern) {
      const auto byte = static_cast<uint8_t>(character);
      auto& children = nodes_[static_cast<size_t>(node)].children;
      auto child =
          std::ranges::lower_bound(children, byte, {}, &std::pair<uint8_t, int32_t>::first);
      if (child == children.end() || child->first != byte)
        child = children.insert(child, {byte, static_cast<int32_t>(nodes_.size())});
      node = child->second;
      if (node == static_cast<int32_t>(nodes_.size())) nodes_.emplace_back();
    }
    // Of two tokens with one text the first is kept.
    if (nodes_[static_cast<size_t>(node)].token < 0)
      nodes_[static_cast<size_t>(node)].token = static_cast<int32_t>(tokens_.size());
    tokens_.push_back(std::move(token));
  }
}

size_t AddedTokenFinder::longest_at(std::string_view text, size_t at, int32_t& token) const {
  size_t longest = 0;
  int32_t node = 0;
  for (size_t end = at; end < text.size(); ++end) {
    const auto& children = nodes_[static_cast<size_t>(node)].children;
    const auto byte = static_cast<uint8_t>(text[end]);
    const auto child =
        std::ranges::lower_bound(children, byte, {}, &std::pair<uint8_t, int32_t>::first);
    if (child == children.end() || child->first != byte) break;
    node = child->second;
    if (nodes_[static_cast<size_t>(node)].token >= 0) {
      token = nodes_[static_cast<size_t>(node)].token;
      longest = end + 1 - at;
    }
  }
  return longest;
}

void AddedTokenFinder::split(std::string_view text,
                             const std::function<void(std::string_view)>& plain,
                             const std::function<void(int32_t)>& token) const {
  size_t done = 0;
  for (size_t at = 0; !tokens_.empty() && at < text.size();) {
    int32_t found = -1;
    const size_t length =
        begins_token_[static_cast<uint8_t>(text[at])] ? longest_at(text, at, found) : 0;
    if (length == 0) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + length;
    at = end;
    const AddedToken& match = tokens_[static_cast<size_t>(found)];
    if (match.single_word) {
      const bool word_before =
          begin > 0 && is_word(code_point_at(text, previous_start(text, begin)).value);
      const bool word_after = end < text.size() && is_word(code_point_at(text, end).value);
      if (word_before || word_after) continue;
    }
    while (match.lstrip && begin > done) {
      const size_t before = previous_start(text, begin);
      if (!is_space(code_point_at(text, before).value)) break;
      begin = before;
    }
    begin = std::max(begin, done);
    while (match.rstrip && end < text.size()) {
      const CodePoint next = code_point_at(text, end);
      if (!is_space(next.value)) break;
      end += static_cast<size_t>(next.num_bytes);
    }
    if (begin > done) plain(text.substr(done, begin - done));
    token(match.id);
    done = end;
  }
  if (done < text.size()) plain(text.substr(done));
}

}  // namespace strait
