// core/ops/cpu/kernels/column_sums.h: the fixed tree that adds partial sums of row chunks.
#pragma once

#include "core/ops/cpu/kernels/declare.h"

// partial [num_rows, cols] is used up: its row 0 becomes the sum of all rows, pairwise:
// (0 + 1) + (2 + 3) and so on. Columns [begin, end) only.
STRAIT_CPU_DECLARE(void column_sums(float* partial, long num_rows, long cols, long begin, long end))
