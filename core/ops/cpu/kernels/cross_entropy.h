// core/ops/cpu/kernels/cross_entropy.h: softmax statistics of one row of logits.
#pragma once

#include "core/ops/cpu/kernels/declare.h"

// The largest of x[0 .. n-1], n >= 1.
STRAIT_CPU_DECLARE(float row_max(const float* x, long n))
// sum of exp(x[i] - max): FP32 within blocks of 1024 elements, FP64 over the blocks. `store`: x[i]
// becomes exp(x[i] - max).
STRAIT_CPU_DECLARE(double row_sum_exp(float* x, long n, float max, bool store))
STRAIT_CPU_DECLARE(void row_scale(float* x, long n, float factor))
