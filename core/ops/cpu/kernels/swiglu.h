// core/ops/cpu/kernels/swiglu.h: rows [begin, end) of swiglu and its gradient.
#pragma once

#include "core/ops/cpu/kernels/declare.h"
#include "core/ops/cpu/rows.h"
#include "core/ops/math/activation.h"

// weight may be null. gate_up has 2 * cols columns, h has cols.
STRAIT_CPU_DECLARE(void swiglu(Rows gate_up, const float* weight, Rows h, long cols, long begin,
                               long end))
// weight and d_weight are both null or both not.
STRAIT_CPU_DECLARE(void swiglu_backward(Rows dh, Rows gate_up, const float* weight, Rows d_gate_up,
                                        float* d_weight, long cols, long begin, long end))
