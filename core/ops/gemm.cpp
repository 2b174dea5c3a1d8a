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

// From this row and column on.
cpu::GemmMatrix matrix_at(const Tensor& matrix, int64_t row, int64_t col) {
  const int64_t elements = row * matrix.row_stride() + col;
  return {matrix.raw() + elements * static_cast<int64_t>(size_of(matrix.dtype())),
          matrix.row_stride(),
          matrix.dtype() == DType::f32    ? cpu::GemmElement::f32
          : matrix.dtype() == DType::bf16 ? cpu::GemmElement::bf16
                                          : cpu::GemmElement::e4m3};
}

double bytes_of(const GemmOperand& operand, int64_t rows) {
  const double each = static_cast<double>(size_of(operand.values.dtype())) +
                      (operand.fp8() ? 4.0 / kScaleBlock : 0);
  return static_cast<double>(rows * operand.values.cols()) * each;
}

void check_operand(const char* op, const char* name, const GemmOperand& operand, int64_t rows,
                   int64_t cols, ScaleLayout layout) {
  if (!operand.fp8()) return check_matrix(op, name, operand.values, rows, cols, kActivationTypes);
  check_matrix(op, name, operand.values, rows, cols, {DType::u8});
  if (operand.layout != layout)
    throw_operand(op, std::string(name) + ": expected tiles of " + name_of(layout) + ", got " +
                          name_of(operand.layout));
}

// VDPBF16PS runs at a quarter of the rate of two FP32 FMA units on Intel's cores (measured on
// Sapphire Rapids), at their rate on AMD's. The results are the same. AMX has nothing but pairs.
cpu::GemmWords words_of(DType compute) {
  if (compute == DType::f32) return cpu::GemmWords::f32;
  const bool amx = cpu::isa() == cpu::Isa::amx, avx512 = amx || cpu::isa() == cpu::Isa::avx512;
  const bool pairs = amx || (avx512 && !__builtin_cpu_is("intel"));
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
Tensor scratch_for(Context& context, Cut cut, bool gradient, bool scaled, int64_t rows,
                   int64_t cols, int64_t k) {
  cpu::GemmTask largest{};
  largest.rows = std::min(rows, cut.most_rows), largest.cols = std::min(cols, cut.most_cols);
  largest.k = k;
  largest.a_is_k_rows = gradient, largest.scaled = scaled;
  const int64_t bytes = STRAIT_CPU_KERNEL(gemm_scratch_bytes)(largest);
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

// Of a weight's blocks, in a product that reads it along `orientation`.
cpu::GemmScales block_scales(const PackedWeight& weights, int64_t expert, Orientation orientation) {
  const int64_t stride =
      scale_stride(ScaleLayout::blocks_128x128, weights.out_features(), weights.in_features());
  const float* data = weights.scales().data<float>() + expert * weights.scales().cols();
  const bool forward = orientation == Orientation::forward;
  return {data, forward ? 1 : stride, forward ? stride : 1, true};
}
cpu::GemmScales line_scales(const GemmOperand& operand, int64_t tile, int64_t line) {
  const int64_t stride = scale_stride(operand.layout, operand.values.rows(), operand.values.cols());
  return {operand.scales.data<float>() + tile * stride + line, stride, 1, false};
}

void multiply(Context& context, const Product& product, const GemmOperand& a_operand,
              std::span<const int64_t> offsets, const PackedWeight& weights, const Tensor& c,
              Accumulate accumulate) {
  const int64_t experts = weights.num_experts();
  const Tensor& a = a_operand.values;
  const bool fp8 = weights.compute() == DType::e4m3;
  check_operand(product.op, "operand", a_operand, a.rows(), product.in, ScaleLayout::rows_1x128);
  check_matrix(product.op, "result", c, a.rows(), product.out, kActivationTypes);
  STRAIT_CHECK(fp8 == a_operand.fp8(),
               std::string("[") + product.op + "] FP8 operands come in pairs");
  STRAIT_CHECK(a.dtype() == DType::f32 || weights.compute() != DType::f32,
               std::string("[") + product.op + "] a bf16 operand needs a bf16 weight");
  STRAIT_CHECK(c.dtype() == DType::f32 || accumulate == Accumulate::no,
               std::string("[") + product.op + "] only an f32 result can accumulate");
  const int64_t rows = check_offsets(product.op, offsets, experts, a.rows());
  const double r = static_cast<double>(rows), k = static_cast<double>(product.in),
               n = static_cast<double>(product.out);
  const Cost cost{
      .flops = 2 * r * k * n,
      .bytes =
          bytes_of(a_operand, rows) + r * n * static_cast<double>(size_of(c.dtype())) +
          static_cast<double>(experts) * k * n * static_cast<double>(size_of(weights.compute())),
      .op_class = product.op_class,
      .operands = weights.compute(),
      .gemm = {.groups = experts, .rows = rows, .in = product.in, .out = product.out}};
  const Tensor scratch =
      scratch_for(context, kProductCut, false, fp8, a.rows(), product.out, product.in);
  context.run(cost, [&] {
    std::vector<int64_t> rows_E;
    for (size_t e = 1; e < offsets.size(); ++e) rows_E.push_back(offsets[e] - offsets[e - 1]);
    const std::byte* packed = weights.storage(product.orientation).raw();
    const bool bf16 = weights.compute() != DType::f32;
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
      task.a = matrix_at(a, row, 0);
      task.b_packed = packed_for(block);
      task.b_next = next < blocks.size() ? packed_for(blocks[next]) : nullptr;
      task.c_bf16 = c.dtype() == DType::bf16;
      task.c_stride = c.row_stride();
      task.c =
          c.raw() + (row * c.row_stride() + block.col) * static_cast<int64_t>(size_of(c.dtype()));
      task.accumulate = accumulate == Accumulate::yes;
      task.scratch = mine;
      task.scaled = fp8;
      if (fp8) {
        task.a_scales = line_scales(a_operand, 0, row);
        task.b_scales = block_scales(weights, block.expert, product.orientation);
        task.first_col = block.col;
      }
      STRAIT_CPU_KERNEL(gemm_run)(task);
    });
  });
}

// Tiles of up to 128 rows before each expert's.
std::vector<int64_t> tiles_before(std::span<const int64_t> offsets) {
  std::vector<int64_t> tiles{0};
  for (size_t e = 1; e < offsets.size(); ++e)
    tiles.push_back(tiles.back() + parts(offsets[e] - offsets[e - 1], kScaleBlock));
  return tiles;
}

void weight_gradient(Context& context, const char* op, OpClass op_class,
                     const GemmOperand& dy_operand, const GemmOperand& x_operand,
                     std::span<const int64_t> offsets, const Tensor& dw, int64_t experts,
                     Accumulate accumulate) {
  const Tensor &dy = dy_operand.values, &x = x_operand.values;
  const int64_t k = x.cols(), n = dy.cols();
  const bool fp8 = x_operand.fp8();
  check_operand(op, "dy", dy_operand, x.rows(), n, ScaleLayout::columns_128x1);
  check_operand(op, "x", x_operand, x.rows(), k, ScaleLayout::columns_128x1);
  STRAIT_CHECK(fp8 == dy_operand.fp8(), std::string("[") + op + "] FP8 operands come in pairs");
  check_matrix(op, "dw", dw, experts * n, k, {DType::f32});
  const int64_t rows = check_offsets(op, offsets, experts, x.rows());
  const bool bf16 = dy.dtype() == DType::bf16 || x.dtype() == DType::bf16;
  const DType compute = fp8 ? DType::e4m3 : bf16 ? DType::bf16 : DType::f32;
  const double r = static_cast<double>(rows);
  const Cost cost{
      .flops = 2 * r * static_cast<double>(k) * static_cast<double>(n),
      .bytes = bytes_of(x_operand, rows) + bytes_of(dy_operand, rows) +
               4.0 * static_cast<double>(experts * n * k),
      .op_class = op_class,
      .operands = compute,
      .gemm = {.groups = experts, .rows = rows, .in = k, .out = n, .weight_gradient = true}};
  const Tensor scratch = scratch_for(context, kGradientCut, true, fp8, n, k, x.rows());
  context.run(cost, [&] {
    const std::vector<int64_t> tiles_E = tiles_before(offsets);
    const std::vector<int64_t> rows_E(static_cast<size_t>(experts), n);
    const std::vector<Block> blocks =
        cut_blocks(kGradientCut, rows_E, k, context.pool().num_threads());
    for_each_block(context, blocks.size(), scratch, [&](size_t i, std::byte* mine) {
      const Block& block = blocks[i];
      const auto expert = static_cast<size_t>(block.expert);
      const int64_t first = offsets[expert], count = offsets[expert + 1] - first;
      if (count == 0 && accumulate == Accumulate::yes) return;
      cpu::GemmTask task{};
      task.words = words_of(compute);
      task.rows = block.rows, task.cols = block.cols, task.k = count;
      task.a_is_k_rows = true;
      task.a = matrix_at(dy, first, block.row);
      task.b = matrix_at(x, first, block.col);
      task.c = dw.data<float>() + (block.expert * n + block.row) * dw.row_stride() + block.col;
      task.c_stride = dw.row_stride();
      task.accumulate = accumulate == Accumulate::yes;
      task.scratch = mine;
      task.scaled = fp8;
      if (fp8) {
        task.a_scales = line_scales(dy_operand, tiles_E[expert], block.row);
        task.b_scales = line_scales(x_operand, tiles_E[expert], 0);
        task.first_col = block.col;
      }
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
         (input_gradient_.defined() ? input_gradient_.bytes() : 0) +
         (scales_.defined() ? scales_.bytes() : 0);
}

const Tensor& PackedWeight::storage(Orientation orientation) const {
  return orientation == Orientation::forward ? forward_ : input_gradient_;
}

void PackedWeight::pack(Context& context, const Tensor& weight, DType compute) {
  STRAIT_CHECK(is_float(compute) || compute == DType::e4m3,
               "[pack] the compute dtype is f32, bf16 or e4m3");
  STRAIT_CHECK(weight.defined() && is_float(weight.dtype()), "[pack] weight must be f32 or bf16");
  const int dims = weight.shape().rank();
  STRAIT_CHECK(
      dims == 2 || (dims == 3 && weight.contiguous()),
      "[pack] weight must be [N, K] or a contiguous [E, N, K], got " + weight.shape().str());
  const int64_t experts = dims == 3 ? weight.dim(0) : 1;
  const int64_t n = weight.dim(dims - 2), k = weight.dim(dims - 1);
  if (experts != num_experts_ || n != out_features_ || k != in_features_ || compute != compute_)
    forward_ = input_gradient_ = scales_ = Tensor();
  num_experts_ = experts, out_features_ = n, in_features_ = k, compute_ = compute;
  const auto storage_for = [&](Orientation orientation, Tensor& storage, int64_t words_per_expert) {
    if (serves(orientation) && !storage.defined())
      storage = context.empty({experts, words_per_expert}, DType::f32, Purpose::packed_weights);
  };
  const auto words = STRAIT_CPU_KERNEL(gemm_packed_words);
  storage_for(Orientation::forward, forward_, words(k, n, compute != DType::f32));
  storage_for(Orientation::input_gradient, input_gradient_, words(n, k, compute != DType::f32));
  const Tensor rows = dims == 3 ? weight.view({experts * n, k}) : weight;
  if (compute != DType::e4m3) return pack_panels(context, rows);

  const int64_t scales_per_expert = num_scales(ScaleLayout::blocks_128x128, n, k);
  if (!scales_.defined())
    scales_ = context.empty({experts, scales_per_expert}, DType::f32, Purpose::packed_weights);
  const Tensor codes = context.empty({experts * n, k}, DType::u8, Purpose::workspace);
  for (int64_t e = 0; e < experts; ++e) {
    Fp8Matrix blocks{codes.slice_rows(e * n, n), scales_.slice_rows(e, 1).view({scales_per_expert}),
                     ScaleLayout::blocks_128x128};
    quantize_blocks(context, rows.slice_rows(e * n, n), kWeightScales, blocks);
  }
  pack_panels(context, codes);
}

// Of a weight [experts * N, K].
void PackedWeight::pack_panels(Context& context, const Tensor& weight) {
  const int64_t n = out_features_, k = in_features_;
  const bool bf16 = compute_ != DType::f32;
  const auto words = STRAIT_CPU_KERNEL(gemm_packed_words);
  const int64_t panel = STRAIT_CPU_KERNEL(gemm_panel)();
  context.run({0, static_cast<double>(weight.bytes() + bytes())}, [&] {
    const int64_t forward_panels = serves(Orientation::forward) ? (n + panel - 1) / panel : 0;
    const int64_t panels =
        forward_panels + (serves(Orientation::input_gradient) ? (k + panel - 1) / panel : 0);
    context.pool().parallel_for(num_experts_ * panels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t expert = i / panels, at = i % panels;
        const bool forward = at < forward_panels;
        const int64_t first = (forward ? at : at - forward_panels) * panel;
        const int64_t in = forward ? k : n, out = forward ? n : k;
        float* const packed = (forward ? forward_ : input_gradient_).data<float>() +
                              expert * words(in, out, bf16) + words(in, first, bf16);
        STRAIT_CPU_KERNEL(gemm_pack)
        (matrix_at(weight, expert * n, 0), forward, in, out, first, bf16, packed);
      }
    });
  });
}

void linear(Context& context, const GemmOperand& x_TK, const PackedWeight& weight,
            const Tensor& y_TN, Accumulate accumulate) {
  const int64_t offsets[] = {0, x_TK.values.rows()};
  multiply(context, product_of("linear", OpClass::linear, weight, Orientation::forward), x_TK,
           offsets, weight, y_TN, accumulate);
}

void linear_input_gradient(Context& context, const GemmOperand& dy_TN, const PackedWeight& weight,
                           const Tensor& dx_TK, Accumulate accumulate) {
  const int64_t offsets[] = {0, dy_TN.values.rows()};
  multiply(
      context,
      product_of("linear_input_gradient", OpClass::linear, weight, Orientation::input_gradient),
      dy_TN, offsets, weight, dx_TK, accumulate);
}

void linear_weight_gradient(Context& context, const GemmOperand& dy_TN, const GemmOperand& x_TK,
                            const Tensor& dw_NK, Accumulate accumulate) {
  const int64_t offsets[] = {0, x_TK.values.rows()};
  weight_gradient(context, "linear_weight_gradient", OpClass::linear, dy_TN, x_TK, offsets, dw_NK,
                  1, accumulate);
}

void grouped_linear(Context& context, const GemmOperand& x_RK, std::span<const int64_t> offsets,
                    const PackedWeight& weights, const Tensor& y_RN, Accumulate accumulate) {
  multiply(context, product_of("grouped_linear", OpClass::expert, weights, Orientation::forward),
           x_RK, offsets, weights, y_RN, accumulate);
}

void grouped_linear_input_gradient(Context& context, const GemmOperand& dy_RN,
                                   std::span<const int64_t> offsets, const PackedWeight& weights,
                                   const Tensor& dx_RK, Accumulate accumulate) {
  multiply(context,
           product_of("grouped_linear_input_gradient", OpClass::expert, weights,
                      Orientation::input_gradient),
           dy_RN, offsets, weights, dx_RK, accumulate);
}

void grouped_linear_weight_gradient(Context& context, const GemmOperand& dy_RN,
                                    const GemmOperand& x_RK, std::span<const int64_t> offsets,
                                    const Tensor& dw_ENK, Accumulate accumulate) {
  STRAIT_CHECK(dw_ENK.defined() && dw_ENK.shape().rank() == 3 && dw_ENK.contiguous(),
               "[grouped_linear_weight_gradient] dw must be a contiguous [E, N, K]");
  weight_gradient(context, "grouped_linear_weight_gradient", OpClass::expert, dy_RN, x_RK, offsets,
                  dw_ENK, dw_ENK.dim(0), accumulate);
}

}  // namespace strait
