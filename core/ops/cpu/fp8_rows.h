// core/ops/cpu/fp8_rows.h: rows that become FP8 where they are made, while they are in cache.
#pragma once

#include <functional>

#include "core/ops/cpu/rows.h"
#include "core/ops/quantize.h"

namespace strait::cpu {

// Calls make(rows, begin, end) for all rows of q, in parallel, and quantises what it writes to rows
// [begin, end) of `rows`, which are of `dtype`: the bits of quantize_rows of the whole matrix.
void make_fp8_rows(Context& ctx, const Cost& cost, DType dtype, const QuantizeSettings& settings,
                   Fp8Matrix& q_RC,
                   const std::function<void(Rows rows, int64_t begin, int64_t end)>& make);

}  // namespace strait::cpu
