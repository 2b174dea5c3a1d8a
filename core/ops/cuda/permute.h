// core/ops/cuda/permute.h: core/ops/permute.h on a GPU, with its bits, and the order of experts'
// rows made on the device.   T tokens, K experts per token, R rows, H hidden, E experts.
#pragma once

#include <cuda_runtime_api.h>

#include "core/ops/cuda/rows.h"

namespace strait::cuda {

// out[r] = x[index[r]], converted where the types differ; zeros where the index is negative.
// BF16: 4 bytes per element.
struct GatherRows {
  Rows x, out;
  const int* index = nullptr;  // [R]
  int64_t rows = 0, cols = 0;  // R, H
};
void gather_rows(const GatherRows& call, cudaStream_t stream);

// The same for FP8 rows as quantize_rows and the fused ops give them: a row's codes and scales
// depend on that row alone, so what is quantised once per token is copied for each of its experts.
// 2 bytes per element.
struct GatherFp8Rows {
  const uint8_t* codes = nullptr;  // [T, H]
  const float* scales = nullptr;   // rows_1x128 of [T, H]
  int64_t tokens = 0;              // T
  uint8_t* out_codes = nullptr;    // [R, H]
  float* out_scales = nullptr;     // rows_1x128 of [R, H]; 1 where the index is negative
  const int* index = nullptr;      // [R]
  int64_t rows = 0, cols = 0;      // R, H
};
void gather_fp8_rows(const GatherFp8Rows& call, cudaStream_t stream);

// out[t] = the sum of t's rows in the fixed tree over [first, last), as core/ops/permute.h says.
// BF16 rows to FP32: 2 bytes per element and entry, and 4.
constexpr int kMaxTreeEntries = 32;  // of one output row
struct TreeSum {
  Rows rows, out;
  const int* offsets = nullptr;     // [T+1]
  const int* experts = nullptr;     // [N], ascending within an output row
  const int* entry_rows = nullptr;  // [N]
  int first = 0, last = 0;
  bool accumulate = false;
  int64_t tokens = 0, cols = 0;  // T, H
  int most_entries = 0;          // REQUIRES: no output row has more; <= kMaxTreeEntries
};
void tree_sum(const TreeSum& call, cudaStream_t stream);

// How often each expert is in ids, of which those outside of [0, E) count for nobody.
constexpr int kMaxCountedExperts = 1024;
struct CountExperts {
  const int* ids = nullptr;  // [T K]
  int64_t num_ids = 0;
  int experts = 0;               // E. REQUIRES: 1..kMaxCountedExperts
  int64_t* counts = nullptr;     // [E], written or added to; may be null
  bool accumulate = false;       // counts only
  int* counts_as_int = nullptr;  // [E], written: what find_expert_blocks reads; may be null
};
void count_experts(const CountExperts& call, cudaStream_t stream);

// Where each (token, expert) pair stands when rows are sorted by expert, tokens in their order, and
// each expert's rows start at a block of 128 (core/ops/cuda/expert_blocks.h). No counts on the
// host: buffers have max_rows rows. Cost: each expert's warp reads all ids.
struct ExpertOrder {
  const int* ids = nullptr;          // [T, K], different within a token, all in [0, E)
  int64_t tokens = 0;                // T
  int top_k = 0;                     // K. REQUIRES: <= kMaxTreeEntries
  int experts = 0;                   // E
  const int* first_block = nullptr;  // [E], of find_expert_blocks
  int64_t max_rows = 0;              // REQUIRES: >= 128 * blocks in use
  // [max_rows] the row's place in ids, -1 of rows that pad: places / K are gather_rows' index.
  int* pair_of_row = nullptr;
  int* token_of_row = nullptr;  // [max_rows] -1 of rows that pad
  // What tree_sum reads; scratch `row_of_pair` [T, K] is overwritten.
  int* row_of_pair = nullptr;
  int* offsets = nullptr;     // [T+1]
  int* experts_of = nullptr;  // [T K]
  int* rows_of = nullptr;     // [T K]
};
void order_by_expert(const ExpertOrder& call, cudaStream_t stream);

}  // namespace strait::cuda
