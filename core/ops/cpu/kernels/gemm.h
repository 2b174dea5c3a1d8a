// core/ops/cpu/kernels/gemm.h: one core's share of a matrix product, C[rows, cols] (+)= A[rows, k]
// B[k, cols].
//
// B is cut into panels of gemm_panel() columns; a panel holds, step after step of the reduction,
// one word of 32 bits per column. A tile of a few rows by one panel stays in registers while k
// runs. The reduction is cut into chunks whose size depends on k alone; a chunk is summed in order
// by fused multiply-adds starting from zero and then added to C, so an element has the same bits
// wherever its row falls in a tile. AVX2 and AVX512 give the same bits; portable code does not
// fuse. AMX sums BF16 32 steps at a time: see gemm_amx.inc.
//
// FP8 operands are codes with scales: a chunk is 128 steps, its sum of products of codes (exact in
// BF16) is multiplied by the chunk's two scales on its way to C.
#pragma once

#include "core/ops/cpu/kernels/declare.h"

namespace strait::cpu {

// What a word of an operand holds while a product runs.
enum class GemmWords : unsigned char {
  f32,
  bf16_pairs,    // the BF16 of steps 2s (low half) and 2s+1 (high half), for VDPBF16PS and AMX's
                 // TDPBF16PS; avx512 and amx only
  bf16_widened,  // a BF16 as FP32, the odd step of each pair first: the order in which VDPBF16PS
                 // adds
};

enum class GemmElement : unsigned char { f32, bf16, e4m3 };

struct GemmMatrix {  // row-major
  const void* data;
  long stride;  // elements
  GemmElement element;
};

constexpr long kScaledSteps = 128;

// Of an operand in codes: that of its row (of A) or column (of B) i, in chunk c of the reduction,
// is data[c * per_chunk + i * per_line], or of blocks data[c * per_chunk + i / 128 * per_line].
struct GemmScales {
  const float* data;
  long per_chunk, per_line;
  bool blocks;
};

struct GemmTask {
  GemmWords words;
  long rows, cols, k;
  bool a_is_k_rows;  // A is stored as [k, rows] instead of [rows, k]
  GemmMatrix a;
  const void* b_packed;  // panels as gemm_pack made them, from the task's first column; or null
  GemmMatrix b;          // [k, cols], used when b_packed is null
  const void* b_next;    // packed panels that are likely read after this task's, or null
  void* c;
  long c_stride;  // elements
  bool c_bf16;
  bool accumulate;  // REQUIRES: not c_bf16
  void* scratch;    // gemm_scratch_bytes(), aligned to 64
  bool scaled;      // both operands are codes (B's may be packed), with these scales, which start
  GemmScales a_scales, b_scales;  // at row 0 of the task and column 0 of the product
  long first_col;                 // of the task, in the product
};

}  // namespace strait::cpu

// Columns of a full panel; a task's first column is a multiple of it.
STRAIT_CPU_DECLARE_WITH_AMX(long gemm_panel())
// 32-bit words of the packed panels of a [k, n] matrix; column c, a multiple of gemm_panel(),
// starts at gemm_packed_words(k, c, bf16).
STRAIT_CPU_DECLARE_WITH_AMX(long gemm_packed_words(long k, long n, bool bf16))
// Packs columns [first, first + gemm_panel()) of B[k, n], as FP32 or BF16 pairs. `packed` is where
// that panel starts. With b_is_n_rows, B is stored as [n, k].
STRAIT_CPU_DECLARE_WITH_AMX(void gemm_pack(const GemmMatrix& b, bool b_is_n_rows, long k, long n,
                                           long first, bool bf16, void* packed))
// Of a task of this kind that is no larger.
STRAIT_CPU_DECLARE_WITH_AMX(long gemm_scratch_bytes(const GemmTask& largest))
STRAIT_CPU_DECLARE_WITH_AMX(void gemm_run(const GemmTask& task))
