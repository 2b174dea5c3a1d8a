// parallel/expert/expert_parts.h: which experts of a layer the ranks hold, and which of them are
// exchanged together.
//
// A part is what sums before a row leaves it: a rank, or a node on two tiers. Parts hold equal
// stretches of the expert ids; a wave exchanges the wave-th of equal stretches of each part, of
// which a node's ranks in turn hold equal stretches. So every partial sum that travels is a node of
// the tree of core/ops/permute.h, where the number of waves is a power of two, and on two tiers a
// rank has as many stretches of experts as there are waves.
#pragma once

#include <cstdint>

#include "core/nn/model.h"
#include "core/ops/permute.h"
#include "parallel/expert/expert_links.h"

namespace strait {

// The experts of `range` in equal parts, and of each the wave-th of num_waves equal stretches.
class ExpertParts {
 public:
  ExpertParts() = default;
  // REQUIRES: num_parts * num_waves divides the experts of `range`.
  ExpertParts(ExpertRange range, int num_parts, int wave = 0, int num_waves = 1);

  int num_parts() const { return num_parts_; }
  int64_t part_of(int64_t expert) const { return (expert - first_) / part_size_; }
  ExpertRange experts_of(int64_t part) const {
    const int64_t first = first_ + part * part_size_ + wave_ * wave_size_;
    return {first, first + wave_size_};
  }
  bool has(int64_t expert) const {
    const int64_t part = part_of(expert);
    const ExpertRange experts = experts_of(part);
    return expert >= experts.first && expert < experts.last && part >= 0 && part < num_parts_;
  }

 private:
  int64_t first_ = 0, part_size_ = 1, wave_size_ = 1;
  int num_parts_ = 1, wave_ = 0;
};

// Where rows go first: to each rank, or on two tiers to each node.
ExpertParts first_parts(const ExpertLinks& links, int64_t num_experts, int wave, int num_waves);
// The ranks of a node that holds `experts` of a wave.
ExpertParts parts_in_node(ExpertRange experts, int num_ranks);

// The experts of one wave that this rank holds, and those of all waves, in their order.
ExpertRange experts_of_wave(const ExpertLinks& links, int64_t num_experts, int wave, int num_waves);
LocalExperts experts_of_rank(const ExpertLinks& links, int64_t num_experts, int num_waves);

}  // namespace strait
