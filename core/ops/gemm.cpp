#include "core/ops/gemm.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "core/ops/check.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/gemm.h"

namespace strait {
namespace {

bool is_float(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; }

cpu::GemmMatrix matrix_of(const Tensor& matrix) {
  return {matrix.raw(), matrix.row_stride(), matrix.dtype() == DType::bf16};
}
cpu::GemmMatrix from_row(cpu::GemmMatrix matrix, int64_t row) {
  if (matrix.data != nullptr)
    matrix.data =
        static_cast<const std::byte*>(matrix.data) + row * matrix.stride * (matrix.bf16 ? 2 : 4);
  return matrix;
}

cpu::GemmMatrix from_col(cpu::GemmMatrix matrix, int64_t col) {
  if (matrix.data != nullptr)
    matrix.data = static_cast<const std::byte*>(matrix.data) + col * (matrix.bf16 ? 2 : 4);
  return matrix;
}

// VDPBF16PS runs at a quarter of the rate of two FP32 FMA units on Intel's cores (measured on
// Sapphire Rapids), at their rate on AMD's. The results are the same.
cpu::GemmWords words_of(DType compute) {
  if (compute == DType::f32) return cpu::GemmWords::f32;
  const bool pairs =
      cpu::isa() == cpu::Isa::amx || (cpu::isa() == cpu::Isa::avx512 && !__builtin_cpu_is("intel"));
  return pairs ? cpu::GemmWords::bf16_pairs : cpu::GemmWords::bf16_widened;
}

struct Product {
  const char* op;
  OpClass op_class;
  Orientation orientation;
  int64_t in, out;  // columns of the operand and of the result
};

Product product_of(const char* op, OpClass op_class, const PackedWeight& weight,
                   Orientation orientation) {
  STRAIT_CHECK(weight.packed() && weight.serves(orientation),
               std::string("[") + op + "] the weight is not packed for this product");
  const bool forward = orientation == Orientation::forward;
  return {op, op_class, orientation, forward ? weight.in_features() : weight.out_features(),
          forward ? weight.out_features() : weight.in_features()};
}

int64_t check_offsets(const char* op, std::span<const int64_t> offsets, int64_t experts,
                      int64_t rows) {
  bool good = static_cast<int64_t>(offsets.size()) == experts + 1 && offsets.front() == 0 &&
              offsets.back() <= rows;
  for (size_t e = 1; good && e < offsets.size(); ++e) good = offsets[e - 1] <= offsets[e];
  STRAIT_CHECK(good, std::string("[") + op + "] expected " + std::to_string(experts + 1) +
                         " rising row offsets from 0 to at most " + std::to_string(rows));
  return offsets.back();
}

// A rectangle of one expert's result.
struct Block {
  int64_t expert, row, rows, col, cols;
};

// How one product is cut into blocks: at most most_rows x most_cols, so that C and a chunk of A
// stay in L2. Heights are multiples of `row_unit`, most_cols is a multiple of every panel.
struct Cut {
  int64_t most_rows, most_cols, row_unit;
};
constexpr Cut kProductCut{240, 512, 6}, kGradientCut{384, 512, 48};

int64_t parts(int64_t count, int64_t most) { return (count + most - 1) / most; }
int64_t round_up(int64_t count, int64_t unit) { return parts(count, unit) * unit; }

// Blocks are made smaller than the cut asks until every thread finds a few; which elements share
// one does not change any of them.
std::vector<Block> cut_blocks(Cut cut, std::span<const int64_t> rows_E, int64_t cols,
                              int num_threads) {
  const int64_t panel = STRAIT_CPU_KERNEL(gemm_panel)(), least_rows = 48;
  const auto enough = [&] {
    int64_t count = 0;
    for (int64_t rows : rows_E) count += parts(rows, cut.most_rows) * parts(cols, cut.most_cols);
    return count >= 6 * num_threads;
  };
  while (num_threads > 1 && !enough() && (cut.most_rows > least_rows || cut.most_cols > panel)) {
    if (cut.most_cols > panel && (cut.most_cols > 2 * cut.most_rows || cut.most_rows <= least_rows))
      cut.most_cols /= 2;
    else
      cut.most_rows = std::max(least_rows, cut.most_rows / 2 / least_rows * least_rows);
  }
  std::vector<Block> blocks;
  for (size_t e = 0; e < rows_E.size(); ++e) {
    const int64_t rows = rows_E[e], count = parts(rows, cut.most_rows);
    const int64_t height = count == 0 ? 0 : round_up(parts(rows, count), cut.row_unit);
    for (int64_t row = 0; row < rows; row += height)
      for (int64_t col = 0; col < cols; col += cut.most_cols)
        blocks.push_back({static_cast<int64_t>(e), row, std::min(height, rows - row), col,
                          std::min(cut.most_cols, cols - col)});
  }
  return blocks;
}

// One slot per thread, of the size that the largest block can need.
Tensor scratch_for(Context& context, Cut cut, bool gradient, int64_t rows, int64_t cols,
                   int64_t k) {
  const int64_t bytes = STRAIT_CPU_KERNEL(gemm_scratch_bytes)(
      gradient, std::min(rows, cut.most_rows), std::min(cols, cut.most_cols), k);
  return context.empty({context.pool().num_threads(), round_up(bytes, 64)}, DType::u8,
                       Purpose::workspace);
}

// Runs body(index of a block, slot of scratch), handing the blocks out as threads become free.
template <class Body>
void for_each_block(Context& context, size_t num_blocks, const Tensor& scratch, const Body& body) {
  std::atomic<size_t> next{0};
  context.pool().parallel_for(scratch.rows(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t slot = begin; slot < end; ++slot) {
      std::byte* const mine = scratch.raw() + slot * scratch.row_stride();
      for (size_t i = next.fetch_add(1); i < num_blocks; i = next.fetch_add(1)) body(i, mine);
    }
  });
}

void multiply(Context& context, const Product& product, const Tensor& a,
              std::span<const int64_t> offsets, const PackedWeight& weights, const Tensor& c,
              Accumulate accumulate) {
  const int64_t experts = weights.num_experts();
  check_matrix(product.op, "operand", a, a.rows(), product.in, kActivationTypes);
  check_matrix(product.op, "result", c, a.rows(), product.out, kActivationTypes);
  STRAIT_CHECK(a.dtype() == DType::f32 || weights.compute() == DType::bf16,
               std::string("[") + product.op + "] a bf16 operand needs a bf16 weight");
  STRAIT_CHECK(c.dtype() == DType::f32 || accumulate == Accumulate::no,
               std::string("[") + product.op + "] only an f32 result can accumulate");
  const int64_t rows = check_offsets(product.op, offsets, experts, a.rows());
  const double r = static_cast<double>(rows), k = static_cast<double>(product.in),
               n = static_cast<double>(product.out);
  const Cost cost{.flops = 2 * r * k * n,
                  .bytes = r * k * static_cast<double>(size_of(a.dtype())) +
                           r * n * static_cast<double>(size_of(c.dtype())) +
                           static_cast<double>(experts) * k * n *
                               static_cast<double>(size_of(weights.compute())),
                  .op_class = product.op_class,
                  .operands = weights.compute(),
                  .gemm = {.groups = experts, .rows = rows, .in = product.in, .out = product.out}};
  const Tensor scratch =
      scratch_for(context, kProductCut, false, a.rows(), product.out, product.in);
  context.run(cost, [&] {
    std::vector<int64_t> rows_E;
    for (size_t e = 1; e < offsets.size(); ++e) rows_E.push_back(offsets[e] - offsets[e - 1]);
    const cpu::GemmMatrix a_matrix = matrix_of(a), c_matrix = matrix_of(c);
    const std::byte* packed = weights.storage(product.orientation).raw();
    const bool bf16 = weights.compute() == DType::bf16;
    const auto words = STRAIT_CPU_KERNEL(gemm_packed_words);
    const int64_t per_expert = words(product.in, product.out, bf16);
    const int num_threads = context.pool().num_threads();
    const std::vector<Block> blocks = cut_blocks(kProductCut, rows_E, product.out, num_threads);
    const auto packed_for = [&](const Block& block) {
      return packed + (block.expert * per_expert + words(product.in, block.col, bf16)) * 4;
    };
    for_each_block(context, blocks.size(), scratch, [&](size_t i, std::byte* mine) {
      const Block& block = blocks[i];
      const size_t next = i + static_cast<size_t>(num_threads);
      const int64_t row = offsets[static_cast<size_t>(block.expert)] + block.row;
      cpu::GemmTask task{};
      task.words = words_of(weights.compute());
      task.rows = block.rows, task.cols = block.cols, task.k = product.in;
      task.a = from_row(a_matrix, row);
      task.b_packed = packed_for(block);
      task.b_next = next < blocks.size() ? packed_for(blocks[next]) : nullptr;
      task.c_bf16 = c_matrix.bf16;
      task.c_stride = c_matrix.stride;
      task.c =
          c.raw() + (row * c.row_stride() + block.col) * static_cast<int64_t>(size_of(c.dtype()));
      task.accumulate = accumulate == Accumulate::yes;
      task.scratch = mine;
      STRAIT_CPU_KERNEL(gemm_run)(task);
    });
  });
}

void weight_gradient(Context& context, const char* op, OpClass op_class, const Tensor& dy,
                     const Tensor& x, std::span<const int64_t> offsets, const Tensor& dw,
                     int64_t experts, Accumulate accumulate) {
  const int64_t k = x.cols(), n = dy.cols();
  check_matrix(op, "dy", dy, x.rows(), n, kActivationTypes);
  check_matrix(op, "x", x, x.rows(), k, kActivationTypes);
  check_matrix(op, "dw", dw, experts * n, k, {DType::f32});
  const int64_t rows = check_offsets(op, offsets, experts, x.rows());
  const DType compute =
      dy.dtype() == DType::bf16 || x.dtype() == DType::bf16 ? DType::bf16 : DType::f32;
  const double r = static_cast<double>(rows);
  const Cost cost{
      .flops = 2 * r * static_cast<double>(k) * static_cast<double>(n),
      .bytes = r * static_cast<double>(k) * static_cast<double>(size_of(x.dtype())) +
               r * static_cast<double>(n) * static_cast<double>(size_of(dy.dtype())) +
               4.0 * static_cast<double>(experts * n * k),
      .op_class = op_class,
      .operands = compute,
      .gemm = {.groups = experts, .rows = rows, .in = k, .out = n, .weight_gradient = true}};
  const Tensor scratch = scratch_for(context, kGradientCut, true, n, k, x.rows());
  context.run(cost, [&] {
    const cpu::GemmMatrix dy_matrix = matrix_of(dy), x_matrix = matrix_of(x);
    const std::vector<int64_t> rows_E(static_cast<size_t>(experts), n);
    const std::vector<Block> blocks =
        cut_blocks(kGradientCut, rows_E, k, context.pool().num_threads());
    for_each_block(context, blocks.size(), scratch, [&](size_t i, std::byte* mine) {
      const Block& block = blocks[i];
      const int64_t first = offsets[static_cast<size_t>(block.expert)];
      const int64_t count = offsets[static_cast<size_t>(block.expert) + 1] - first;
      if (count == 0 && accumulate == Accumulate::yes) return;
      cpu::GemmTask task{};
      task.words = words_of(compute);
      task.rows = block.rows, task.cols = block.cols, task.k = count;
      task.a_is_k_rows = true;
      task.a = from_col(from_row(dy_matrix, first), block.row);
      task.b = from_col(from_row(x_matrix, first), block.col);
      task.c = dw.data<float>() + (block.expert * n + block.row) * dw.row_stride() + block.col;
      task.c_stride = dw.row_stride();
      task.accumulate = accumulate == Accumulate::yes;
      task.scratch = mine;
      STRAIT_CPU_KERNEL(gemm_run)(task);
    });
  });
}

}  // namespace

bool PackedWeight::serves(Orientation orientation) const {
  return (static_cast<int>(orientation_) & static_cast<int>(orientation)) ==
         static_cast<int>(orientation);
}

int64_t PackedWeight::bytes() const {
  return (forward_.defined() ? forward_.bytes() : 0) +
         (input_gradient_.defined() ? input_gradient_.bytes() : 0);
}

const Tensor& PackedWeight::storage(Orientation orientation) const {
  return orientation == Orientation::forward ? forward_ : input_gradient_;
}

void PackedWeight::pack(Context& context, const Tensor& weight, DType compute) {
  STRAIT_CHECK(is_float(compute), "[pack] the compute dtype is f32 or bf16");
  STRAIT_CHECK(weight.defined() && is_float(weight.dtype()), "[pack] weight must be f32 or bf16");
  const int dims = weight.shape().rank();
  STRAIT_CHECK(
      dims == 2 || (dims == 3 && weight.contiguous()),
      "[pack] weight must be [N, K] or a contiguous [E, N, K], got " + weight.shape().str());
  const int64_t experts = dims == 3 ? weight.dim(0) : 1;
  const int64_t n = weight.dim(dims - 2), k = weight.dim(dims - 1);
  if (experts != num_experts_ || n != out_features_ || k != in_features_ || compute != compute_)
    forward_ = input_gradient_ = Tensor();
  num_experts_ = experts, out_features_ = n, in_features_ = k, compute_ = compute;
  const bool bf16 = compute == DType::bf16;
  const auto words = STRAIT_CPU_KERNEL(gemm_packed_words);
  const auto storage_for = [&](Orientation orientation, Tensor& storage, int64_t words_per_expert) {
    if (serves(orientation) && !storage.defined())
      storage = context.empty({experts, words_per_expert}, DType::f32, Purpose::packed_weights);
  };
  storage_for(Orientation::forward, forward_, words(k, n, bf16));
  storage_for(Orientation::input_gradient, input_gradient_, words(n, k, bf16));
  const int64_t panel = STRAIT_CPU_KERNEL(gemm_panel)();
  context.run({0, static_cast<double>(weight.bytes() + bytes())}, [&] {
    const cpu::GemmMatrix source = matrix_of(weight);
    const int64_t forward_panels = serves(Orientation::forward) ? (n + panel - 1) / panel : 0;
    const int64_t panels =
        forward_panels + (serves(Orientation::input_gradient) ? (k + panel - 1) / panel : 0);
    context.pool().parallel_for(experts * panels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t expert = i / panels, at = i % panels;
        const bool forward = at < forward_panels;
        const int64_t first = (forward ? at : at - forward_panels) * panel;
        const int64_t in = forward ? k : n, out = forward ? n : k;
        float* const packed = (forward ? forward_ : input_gradient_).data<float>() +
                              expert * words(in, out, bf16) + words(in, first, bf16);
        STRAIT_CPU_KERNEL(gemm_pack)
        (from_row(source, expert * n), forward, in, out, first, bf16, packed);
      }
    });
  });
}

void linear(Context& context, const Tensor& x_TK, const PackedWeight& weight, const Tensor& y_TN,
            Accumulate accumulate) {
  const int64_t offsets[] = {0, x_TK.rows()};
  multiply(context, product_of("linear", OpClass::linear, weight, Orientation::forward), x_TK,
           offsets, weight, y_TN, accumulate);
}

void linear_input_gradient(Context& context, const Tensor& dy_TN, const PackedWeight& weight,
                           const Tensor& dx_TK, Accumulate accumulate) {
  const int64_t offsets[] = {0, dy_TN.rows()};
  multiply(
      context,
      product_of("linear_input_gradient", OpClass::linear, weight, Orientation::input_gradient),
      dy_TN, offsets, weight, dx_TK, accumulate);
}

void linear_weight_gradient(Context& context, const Tensor& dy_TN, const Tensor& x_TK,
                            const Tensor& dw_NK, Accumulate accumulate) {
  const int64_t offsets[] = {0, x_TK.rows()};
  weight_gradient(context, "linear_weight_gradient", OpClass::linear, dy_TN, x_TK, offsets, dw_NK,
                  1, accumulate);
}

void grouped_linear(Context& context, const Tensor& x_RK, std::span<const int64_t> offsets,
                    const PackedWeight& weights, const Tensor& y_RN, Accumulate accumulate) {
  multiply(context, product_of("grouped_linear", OpClass::expert, weights, Orientation::forward),
           x_RK, offsets, weights, y_RN, accumulate);
}

void grouped_linear_input_gradient(Context& context, const Tensor& dy_RN,
                                   std::span<const int64_t> offsets, const PackedWeight& weights,
                                   const Tensor& dx_RK, Accumulate accumulate) {
  multiply(context,
           product_of("grouped_linear_input_gradient", OpClass::expert, weights,
                      Orientation::input_gradient),
           dy_RN, offsets, weights, dx_RK, accumulate);
}

void grouped_linear_weight_gradient(Context& context, const Tensor& dy_RN, const Tensor& x_RK,
                                    std::span<const int64_t> offsets, const Tensor& dw_ENK,
                                    Accumulate accumulate) {
  STRAIT_CHECK(dw_ENK.defined() && dw_ENK.shape().rank() == 3 && dw_ENK.contiguous(),
               "[grouped_linear_weight_gradient] dw must be a contiguous [E, N, K]");
  weight_gradient(context, "grouped_linear_weight_gradient", OpClass::expert, dy_RN, x_RK, offsets,
                  dw_ENK, dw_ENK.dim(0), accumulate);
}

}  // namespace strait
