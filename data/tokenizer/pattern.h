// data/tokenizer/pattern.h: a split pattern of a tokenizer.json, written for Oniguruma, matched by
// PCRE2.
//
// What differs between the two is translated: \h (a hexadecimal digit), \w, \b, names of scripts
// and long names of categories in \p{}, [:digit:] and its like; refused are sets inside sets, &&,
// and properties and classes whose members differ ([:alpha:], [:punct:]). Text is matched in its
// as_patterns_see() form. A Pattern is immutable and thread-safe; a Matcher belongs to one thread.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace strait {

struct Match {
  size_t begin = 0, end = 0;
};

class Pattern;

// The scratch memory of matching.
class Matcher {
 public:
  Matcher();
  ~Matcher();
  Matcher(Matcher&&) noexcept;
  Matcher& operator=(Matcher&&) noexcept;

 private:
  friend class Pattern;
  struct State;
  std::unique_ptr<State> state_;
};

class Pattern {
 public:
  static Pattern regex(
      const std::string& source);  // throws DataError with the source and the reason
  static Pattern literal(const std::string& text);

  const std::string& source() const { return source_; }

  // The first match at or after `from`, or false. REQUIRES: `seen` is well-formed UTF-8.
  // Throws DataError when the pattern needs more steps than PCRE2 allows.
  bool find(Matcher& matcher, std::string_view seen, size_t from, Match& match) const;

 private:
  struct Code;
  Pattern(std::string source, const std::string& translated);
  std::string source_;
  std::shared_ptr<const Code> code_;
};

// Walks over all matches of a pattern in a text, as Oniguruma's find_iter does: an empty match
// right after another match is skipped.
class Matches {
 public:
  Matches(const Pattern& pattern, Matcher& matcher, std::string_view seen)
      : pattern_(pattern), matcher_(matcher), seen_(seen) {}
  bool next(Match& match);

 private:
  const Pattern& pattern_;
  Matcher& matcher_;
  std::string_view seen_;
  size_t from_ = 0;
  size_t last_end_ = static_cast<size_t>(-1);
};

// For tests: the PCRE2 form of an Oniguruma pattern.
std::string pcre2_of_oniguruma(const std::string& source);

}  // namespace strait
