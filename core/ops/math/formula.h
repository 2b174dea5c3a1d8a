// core/ops/math/formula.h: how per-element maths is written once for CPU and GPU.
//
// A formula is a template over N, which says what a number is: Scalar of core/ops/math/scalar.h on
// GPUs and in tests, or Sixteen of core/ops/cpu/kernels/formula.inc, as many at a time. N has the
// type F, with + - * / of its own, and
//   set(float), fma(a, b, c) = a * b + c, exp(x), sqrt(x).
// Headers of formulas include nothing of std: the CPU compiles them for each instruction set.
#pragma once

#include "core/ops/math/host_device.h"

// Inlined always: one copy would serve code of several instruction sets.
#define STRAIT_FORMULA STRAIT_HD inline __attribute__((always_inline))
