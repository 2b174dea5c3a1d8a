// parallel/expert/hop.h: planned rows to the members of one group, and rows back from them.
//
// The parts of the plan are the group's members. All of a member's rows travel in chunks, each of
// equally many stretches of the plan; chunk c of what is sent to a member is chunk c of what
// arrives there. Its pairs and their weights are known to both sides before the first row.
// Operations are made on the communication thread and use the hop: it must outlive them.
#pragma once

#include "parallel/comm/comm.h"
#include "parallel/expert/row_plan.h"

namespace strait {

class Hop {
 public:
  // REQUIRES: `chunks` divides the plan's stretches.
  Hop(const Channel& channel, RowPlan plan, int chunks);

  // Words of 4 bytes of all planned rows: of each its number of pairs, then expert and weight of
  // each. weights: of the planned pairs.
  int64_t route_words() const { return plan_.num_rows() + 2 * plan_.num_pairs(); }
  void pack_route(const std::vector<float>& weights, const Tensor& words) const;
  // Tells the members what comes to them and learns what comes here. REQUIRES: words outlive it.
  OperationPtr exchange_route(Context& ctx, const Tensor& words);

  const RowPlan& plan() const { return plan_; }
  int chunks() const { return chunks_; }
  // What arrives, by member, then stretch, then source row.
  const RowPairs& arriving() const { return arriving_; }
  const std::vector<float>& arriving_weights() const { return arriving_weights_; }
  // Planned rows for, and arriving rows from, a member in one stretch, or in the stretches of one
  // chunk.
  RowRange planned(int member, size_t stretch) const { return range(planned_at_, member, stretch); }
  RowRange arriving(int member, size_t stretch) const {
    return range(arriving_at_, member, stretch);
  }
  RowRange planned_chunk(int member, int chunk) const {
    return chunk_range(planned_at_, member, chunk);
  }
  RowRange arriving_chunk(int member, int chunk) const {
    return chunk_range(arriving_at_, member, chunk);
  }

  // One chunk of rows to the members, and back from them. Both tensors hold all chunks.
  OperationPtr send_rows(const Tensor& planned, const Tensor& arriving, int chunk) const;
  OperationPtr return_rows(const Tensor& arriving, const Tensor& planned, int chunk) const;
  // A number of 4 bytes for each pair, back.
  OperationPtr return_pairs(const Tensor& arriving, const Tensor& planned) const;

 private:
  using Starts = std::vector<int64_t>;  // first row of each member and stretch, and the end
  RowRange range(const Starts& starts, int member, size_t stretch, size_t count = 1) const {
    const size_t at = static_cast<size_t>(member) * plan_.num_stretches + stretch;
    return {starts[at], starts[at + count]};
  }
  RowRange chunk_range(const Starts& starts, int member, int chunk) const {
    const size_t of_chunk = plan_.num_stretches / static_cast<size_t>(chunks_);
    return range(starts, member, static_cast<size_t>(chunk) * of_chunk, of_chunk);
  }
  std::vector<int64_t> rows_of_members(const Starts& starts) const;
  OperationPtr move_chunk(const Tensor& from, const Starts& from_at, const Tensor& to,
                          const Starts& to_at, int chunk) const;
  void read_route(const Tensor& words);

  Channel channel_;
  RowPlan plan_;
  int chunks_;
  Starts planned_at_, arriving_at_;
  std::vector<int64_t> arriving_pairs_;  // from each member
  RowPairs arriving_;
  std::vector<float> arriving_weights_;
};

}  // namespace strait
