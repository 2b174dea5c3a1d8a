// tests/parallel/exchange_checks.h: dispatch, stand-in experts, combine, and all of it backward, on
// every rank; results by token of the whole batch, so that layouts can be compared. Used with
// `local` by expert_exchange_test.cpp and, under mpirun, by expert_exchange_mpi_test.cpp.
#pragma once

#include <map>
#include <vector>

#include "parallel/comm/comm.h"
#include "parallel/expert/expert_waves.h"

namespace strait::tests {

struct ExchangeCase {
  int64_t tokens = 101;  // of the whole batch; ranks hold consecutive ones, not equally many
  int64_t num_experts = 16, top_k = 4, hidden = 40;
  int64_t num_groups = 1, topk_group = 1;  // a token's experts lie in topk_group of so many groups
  DType compute = DType::f32, wire = DType::f32;
  bool fp8 = false, fp8_sums = false;  // of rows on their way to the experts, and of sums back
  int waves = 1;
  bool backward = true;
  float last_x = 0, last_gradient = 0;  // not 0: the last number of all tokens' rows
};

// What the tokens [first, first + count) of one rank got.
struct ExchangeResult {
  int64_t first = 0, count = 0;
  std::vector<float> sums, d_x, d_weights;  // [T, H], [T, H], [T, K]
  // Of each expert of this rank, the tokens whose rows it got, in its order.
  std::map<int64_t, std::vector<int32_t>> tokens_of_expert;
  int64_t far_bytes = 0, near_bytes = 0, floor_bytes = 0;  // sent, to other nodes, by this rank
};

// `comm` null: one rank.
ExchangeResult run_exchange(const ExchangeCase& c, Comm* comm, bool two_tier, int chunks);

// That this rank's results have the bits of one rank's, `one`, and its experts get their tokens in
// order. REQUIRES: an FP32 wire.
void check_same_bits(const ExchangeCase& c, const ExchangeResult& one, Comm& comm, bool two_tier,
                     int chunks);

// Sums of all tokens, [T, H], by a plain recursion over the expert ids that rounds to the wire
// where a rank's partial sum of a wave ends and, two-tier, where a node's does.
std::vector<float> expected_sums(const ExchangeCase& c, int64_t ranks, int64_t nodes,
                                 bool two_tier);

}  // namespace strait::tests
