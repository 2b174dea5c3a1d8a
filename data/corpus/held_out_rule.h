// data/corpus/held_out_rule.h: which documents are kept for validation: those with the lowest
// hashes of their bytes, so that equal documents always fall on the same side, in any order.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace strait {

class HeldOutRule {
 public:
  explicit HeldOutRule(double fraction);  // REQUIRES: 0 < fraction < 1

  // To be called with every document, before decide().
  void see(std::string_view document);
  // Holds out as near to `fraction` of all bytes as documents (and 65,536 steps of the hash) allow,
  // but at least one document, and not all. False when that cannot be: there were not two different
  // ones.
  bool decide();
  // REQUIRES: decide() returned true.
  bool holds_out(std::string_view document) const;

 private:
  double fraction_;
  std::vector<int64_t> bytes_;  // seen, by the upper 16 bits of the hash
  uint64_t lowest_ = ~uint64_t{0}, highest_ = 0;
  uint64_t limit_ = 0;  // hashes below are held out; 0: not decided
};

}  // namespace strait
