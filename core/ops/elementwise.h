// core/ops/elementwise.h: casts and sums over whole tensors.
// Tensors are f32 or bf16 unless said otherwise, read as matrices whose rows may be strided.
// Arithmetic is FP32 and rounds once.
#pragma once

#include "core/context.h"

namespace strait {

// y = x, converted where the types differ (bf16: to nearest even). The same type is copied bit by
// bit. Same number of rows and columns; used to copy into and out of column views too.
void cast(Context& ctx, const Tensor& x, Tensor& y);

// y += x.
void add(Context& ctx, const Tensor& x, Tensor& y);

// x = value.
void fill(Context& ctx, double value, Tensor& x);

// Sum of x^2 in FP64: exact products, blocks of 4096 elements, then a binary tree over the blocks.
// The same bits for any number of threads and every instruction set. 0 on `meta`. REQUIRES: x
// contiguous.
double sum_of_squares(Context& ctx, const Tensor& x);

}  // namespace strait
