// core/ops/cpu/kernels/embedding.h: the gradient of a table lookup.
#pragma once

#include "core/ops/cpu/kernels/declare.h"
#include "core/ops/cpu/rows.h"

// table[index[r]] += x[r] for r = 0 .. num_rows-1 in that order, columns [begin, end). The table is
// FP32.
STRAIT_CPU_DECLARE(void add_rows_at(Rows x, Index index, Rows table, long num_rows, long begin,
                                    long end))
