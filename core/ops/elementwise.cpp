#include "core/ops/elementwise.h"

#include <vector>

#include "core/ops/check.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/elementwise.h"
#include "core/ops/cpu/tensor_rows.h"

namespace strait {
namespace {

constexpr int64_t kElementsPerBlock = 4096;  // of sum_of_squares: part of its result
constexpr int64_t kBlocksPerTask = 8;
constexpr int64_t kElementsPerTask = 16384;

// Calls body(offset, cols, begin, end) in parallel for all of a tensor of this shape: rows begin ..
// end-1 of `cols` elements, `offset` elements from its start. Contiguous tensors are cut without
// regard to rows.
template <class Body>
void for_pieces(Context& ctx, const Tensor& tensor, bool contiguous, Body body) {
  const int64_t rows = tensor.rows(), cols = tensor.cols();
  if (tensor.numel() == 0) return;
  if (contiguous) {
    ctx.pool().parallel_for(tensor.numel(), kElementsPerTask,
                            [&](int64_t begin, int64_t end) { body(begin, end - begin, 0, 1); });
  } else {
    ctx.pool().parallel_for(rows, cpu::row_grain(cols),
                            [&](int64_t begin, int64_t end) { body(0, cols, begin, end); });
  }
}

}  // namespace

void cast(Context& ctx, const Tensor& x, Tensor& y) {
  check_matrix("cast", "x", x, kAnySize, kAnySize, kActivationTypes);
  check_matrix("cast", "y", y, x.rows(), x.cols(), kActivationTypes);
  ctx.run({.bytes = static_cast<double>(x.bytes() + y.bytes())}, [&] {
    const bool flat = x.contiguous() && y.contiguous();
    const cpu::Rows source = cpu::rows_of(x), target = cpu::rows_of(y);
    const auto kernel = STRAIT_CPU_KERNEL(cast);
    for_pieces(ctx, x, flat, [&](int64_t offset, int64_t cols, int64_t begin, int64_t end) {
      kernel(cpu::advance(source, offset), cpu::advance(target, offset), cols, begin, end);
    });
  });
}

void add(Context& ctx, const Tensor& x, Tensor& y) {
  check_matrix("add", "x", x, kAnySize, kAnySize, kActivationTypes);
  check_matrix("add", "y", y, x.rows(), x.cols(), kActivationTypes);
  const Cost cost{.flops = static_cast<double>(x.numel()),
                  .bytes = static_cast<double>(x.bytes() + 2 * y.bytes())};
  ctx.run(cost, [&] {
    const bool flat = x.contiguous() && y.contiguous();
    const cpu::Rows source = cpu::rows_of(x), target = cpu::rows_of(y);
    const auto kernel = STRAIT_CPU_KERNEL(add);
    for_pieces(ctx, x, flat, [&](int64_t offset, int64_t cols, int64_t begin, int64_t end) {
      kernel(cpu::advance(source, offset), cpu::advance(target, offset), cols, begin, end);
    });
  });
}

void fill(Context& ctx, double value, Tensor& x) {
  check_matrix("fill", "x", x, kAnySize, kAnySize, kActivationTypes);
  ctx.run({.bytes = static_cast<double>(x.bytes())}, [&] {
    const cpu::Rows target = cpu::rows_of(x);
    const auto kernel = STRAIT_CPU_KERNEL(fill);
    for_pieces(ctx, x, x.contiguous(),
               [&](int64_t offset, int64_t cols, int64_t begin, int64_t end) {
                 kernel(static_cast<float>(value), cpu::advance(target, offset), cols, begin, end);
               });
  });
}

double sum_of_squares(Context& ctx, const Tensor& x) {
  check_flat("sum_of_squares", "x", x, kAnySize, kActivationTypes);
  double total = 0;
  const Cost cost{.flops = 2.0 * static_cast<double>(x.numel()),
                  .bytes = static_cast<double>(x.bytes())};
  ctx.run(cost, [&] {
    const int64_t numel = x.numel();
    const int64_t blocks = (numel + kElementsPerBlock - 1) / kElementsPerBlock;
    if (blocks == 0) return;
    std::vector<double> sums(static_cast<size_t>(blocks));
    const cpu::Rows source = cpu::rows_of(x);
    const auto kernel = STRAIT_CPU_KERNEL(sum_of_squares);
    ctx.pool().parallel_for(blocks, kBlocksPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t first = block * kElementsPerBlock;
        sums[static_cast<size_t>(block)] =
            kernel(source, first, std::min(kElementsPerBlock, numel - first));
      }
    });
    for (size_t step = 1; step < sums.size(); step *= 2)
      for (size_t i = 0; i + step < sums.size(); i += 2 * step) sums[i] += sums[i + step];
    total = sums[0];
  });
  return total;
}

}  // namespace strait
