#include "parallel/expert/expert_parts.h"

#include "core/errors.h"

namespace strait {

ExpertParts::ExpertParts(ExpertRange range, int num_parts, int wave, int num_waves)
    : first_(range.first),
      part_size_((range.last - range.first) / num_parts),
      wave_size_(part_size_ / num_waves),
      num_parts_(num_parts),
      wave_(wave) {
  STRAIT_CHECK(wave_size_ * num_waves * num_parts == range.last - range.first,
               "experts in equal parts and waves");
}

ExpertParts first_parts(const ExpertLinks& links, int64_t num_experts, int wave, int num_waves) {
  return {{0, num_experts}, links.two_tier ? links.num_nodes() : links.num_ranks, wave, num_waves};
}

ExpertParts parts_in_node(ExpertRange experts, int num_ranks) { return {experts, num_ranks}; }

ExpertRange experts_of_wave(const ExpertLinks& links, int64_t num_experts, int wave,
                            int num_waves) {
  const ExpertParts parts = first_parts(links, num_experts, wave, num_waves);
  if (!links.two_tier) return parts.experts_of(links.rank_index);
  return parts_in_node(parts.experts_of(links.node_index()), links.ranks_per_node)
      .experts_of(links.rank_index % links.ranks_per_node);
}

LocalExperts experts_of_rank(const ExpertLinks& links, int64_t num_experts, int num_waves) {
  const ExpertRange first = experts_of_wave(links, num_experts, 0, num_waves);
  LocalExperts experts{
      .first = first.first, .count = num_experts / links.num_ranks, .num_stretches = num_waves};
  if (num_waves > 1)
    experts.stride = experts_of_wave(links, num_experts, 1, num_waves).first - first.first;
  return experts;
}

}  // namespace strait
