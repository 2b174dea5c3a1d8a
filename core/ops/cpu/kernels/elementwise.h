// core/ops/cpu/kernels/elementwise.h: rows [begin, end) of the element-wise ops.
#pragma once

#include "core/ops/cpu/kernels/declare.h"
#include "core/ops/cpu/rows.h"

STRAIT_CPU_DECLARE(void cast(Rows x, Rows y, long cols, long begin, long end))
STRAIT_CPU_DECLARE(void add(Rows x, Rows y, long cols, long begin, long end))  // y += x
STRAIT_CPU_DECLARE(void fill(float value, Rows x, long cols, long begin, long end))
// out[i] = x[index[i]] for i in [begin, end).
STRAIT_CPU_DECLARE(void gather_rows(Rows x, Index index, Rows out, long cols, long begin, long end))
// Of one run of n elements. The sum is FP64: the squares are exact, the order is fixed.
STRAIT_CPU_DECLARE(double sum_of_squares(Rows x, long begin, long n))
