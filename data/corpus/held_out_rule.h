// data/corpus/held_out_rule.h: which documents are kept for validation: a function of a document's
// own bytes, so a document always falls on the same side, wherever and however often it occurs.
#pragma once

#include <cstdint>
#include <string_view>

namespace strait {

class HeldOutRule {
 public:
  explicit HeldOutRule(double fraction);  // REQUIRES: 0 < fraction < 1

  // Every document, before the first holds_out(): a document whose hash is below
  // fraction x 2^64 is held out, but one is always held out and one always is not.
  void see(std::string_view document);
  // False when all documents seen are the same one (or there was none).
  bool can_split() const { return lowest_ < highest_; }
  // REQUIRES: can_split().
  bool holds_out(std::string_view document) const;

 private:
  uint64_t limit_;
  uint64_t lowest_ = ~uint64_t{0}, highest_ = 0;
};

}  // namespace strait
