// core/ops/cpu/kernels/normal.h: normal numbers from counters, the same bits on every instruction
// set.
#pragma once

#include "core/ops/cpu/kernels/declare.h"

// out[i] = scale * normal number first + i of the stream, for i < n. Numbers 2p and 2p + 1 come
// from splitmix(stream ^ splitmix(p)) (core/scramble.h) by Box and Muller. REQUIRES: first >= 0.
STRAIT_CPU_DECLARE(void fill_normal(unsigned long stream, long first, float scale, float* out,
                                    long n))
