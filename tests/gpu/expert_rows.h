// tests/gpu/expert_rows.h: rows of experts in a buffer, each expert from a multiple of 128.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ops/cuda/grouped_gemm_fp8.h"
#include "tests/gpu/fp8_data.h"

namespace strait::cuda {

struct ExpertRows {
  std::vector<int> block_expert, first_block, end_block;
  std::vector<int> row_expert;  // of a row in use, else -1

  explicit ExpertRows(const std::vector<int>& counts) {
    for (size_t e = 0; e < counts.size(); e++) {
      const auto expert = static_cast<int>(e);
      const auto num = static_cast<int>(ceil_div(counts[e], kExpertAlignment));
      first_block.push_back(blocks());
      block_expert.insert(block_expert.end(), num, expert);
      end_block.push_back(blocks());
      for (int r = 0; r < num * kExpertAlignment; r++)
        row_expert.push_back(r < counts[e] ? expert : -1);
    }
  }
  int blocks() const { return static_cast<int>(block_expert.size()); }
  int64_t rows() const { return int64_t{blocks()} * kExpertAlignment; }

  // Zeros the columns of a transposed operand that no expert has.
  void clear_padding(Fp8Matrix& matrix) const {
    for (int64_t f = 0; f < matrix.rows; f++) {
      for (int64_t r = 0; r < rows(); r++) {
        if (row_expert[r] < 0) matrix.q[f * matrix.cols + r] = 0;
      }
    }
  }
};

}  // namespace strait::cuda
