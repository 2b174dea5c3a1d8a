#include "core/ops/quantize.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/ops/check.h"
#include "core/ops/cpu/fp8_rows.h"
#include "core/ops/cpu/isa.h"
#include "core/ops/cpu/kernels/quantize.h"
#include "core/ops/cpu/tensor_rows.h"

namespace strait {
namespace {

// What is quantised is read once, its codes and scales written; or the other way round.
Cost cost_of(double bytes, const Tensor& codes, const Tensor& scales) {
  return {.bytes = bytes + static_cast<double>(codes.bytes() + scales.bytes())};
}

cpu::Fp8Rows fp8_rows(const Tensor& codes, const Tensor& scales, int64_t rows, int64_t cols,
                      ScaleLayout layout) {
  return {.codes = codes.data<uint8_t>(),
          .scales = scales.data<float>(),
          .rows = rows,
          .cols = cols,
          .scale_stride = scale_stride(layout, rows, cols),
          .blocks = layout == ScaleLayout::blocks_128x128};
}
cpu::Fp8Rows fp8_rows(const Fp8Matrix& q) {
  return fp8_rows(q.codes_RC, q.scales, q.codes_RC.rows(), q.codes_RC.cols(), q.layout);
}

cpu::Fp8Rows wire_rows(const Tensor& wire, int64_t cols) {
  return {.codes = reinterpret_cast<uint8_t*>(wire.raw()),
          .scales = wire.data<float>() + cols / 4,
          .rows = wire.rows(),
          .cols = cols,
          .row_bytes = fp8_wire_words(cols) * 4};
}

// Codes and scales of one row in tiles of 1 x 128, apart or as on a wire.
void copy_row(const cpu::Fp8Rows& from, int64_t row, const cpu::Fp8Rows& to, int64_t to_row) {
  const auto codes_at = [](const cpu::Fp8Rows& q, int64_t r) {
    return q.codes + r * (q.row_bytes != 0 ? q.row_bytes : q.cols);
  };
  const auto scale_at = [](const cpu::Fp8Rows& q, int64_t r, int64_t tile) -> float& {
    return q.row_bytes != 0 ? q.scales[r * (q.row_bytes / 4) + tile]
                            : q.scales[tile * q.scale_stride + r];
  };
  std::memcpy(codes_at(to, to_row), codes_at(from, row), static_cast<size_t>(from.cols));
  for (int64_t tile = 0; tile < ceil_div(from.cols, kScaleBlock); ++tile)
    scale_at(to, to_row, tile) = scale_at(from, row, tile);
}

cpu::ScaleRule rule_of(const QuantizeSettings& settings) {
  return {settings.least_max, settings.power_of_two};
}

void check_fp8(const char* op, const char* name, const Fp8Matrix& q, int64_t rows, int64_t cols,
               ScaleLayout layout) {
  if (q.layout != layout)
    throw_operand(op, std::string(name) + ": expected scales of " + name_of(layout) + ", got " +
                          name_of(q.layout));
  check_flat(op, name, q.codes_RC, rows * cols, {DType::u8});
  check_matrix(op, name, q.codes_RC, rows, cols, {DType::u8});
  check_flat(op, "scales", q.scales, num_scales(layout, rows, cols), {DType::f32});
}

int64_t num_tiles(int64_t rows, int64_t cols) {
  return ceil_div(rows, kScaleBlock) * ceil_div(cols, kScaleBlock);
}

}  // namespace

void require_finite(Context& ctx, const char* what, const std::string& name) {
  if (ctx.take_not_finite()) throw NotFiniteError(what + name + " has numbers that are not finite");
}

Fp8Matrix empty_fp8(Context& ctx, int64_t rows, int64_t cols, ScaleLayout layout, Purpose purpose) {
  return {ctx.empty({rows, cols}, DType::u8, purpose),
          ctx.empty({num_scales(layout, rows, cols)}, DType::f32, purpose), layout};
}

void quantize_rows(Context& ctx, const Tensor& x_RC, const QuantizeSettings& settings,
                   Fp8Matrix& q_RC) {
  check_matrix("quantize_rows", "x", x_RC, kAnySize, kAnySize, kActivationTypes);
  check_fp8("quantize_rows", "q", q_RC, x_RC.rows(), x_RC.cols(), ScaleLayout::rows_1x128);
  ctx.run(cost_of(double(x_RC.bytes()), q_RC.codes_RC, q_RC.scales), [&] {
    const auto kernel = STRAIT_CPU_KERNEL(quantize_rows);
    const cpu::Rows x = cpu::rows_of(x_RC);
    const cpu::Fp8Rows q = fp8_rows(q_RC);
    ctx.pool().parallel_for(q.rows, cpu::row_grain(q.cols), [&](int64_t begin, int64_t end) {
      if (!kernel(x, rule_of(settings), q, begin, end)) ctx.note_not_finite();
    });
  });
}

void cpu::make_fp8_rows(Context& ctx, const Cost& cost, DType dtype,
                        const QuantizeSettings& settings, Fp8Matrix& q_RC,
                        const std::function<void(Rows, int64_t, int64_t)>& make) {
  const int64_t rows = q_RC.codes_RC.rows(), cols = q_RC.codes_RC.cols();
  check_fp8("make_fp8_rows", "q", q_RC, rows, cols, ScaleLayout::rows_1x128);
  ctx.run(cost, [&] {
    const cpu::Fp8Rows q = fp8_rows(q_RC);
    ctx.pool().parallel_for(rows, cpu::row_grain(cols), [&](int64_t begin, int64_t end) {
      const auto row_bytes = cols * static_cast<int64_t>(size_of(dtype));
      std::vector<std::byte> made(static_cast<size_t>((end - begin) * row_bytes));
      cpu::Rows rows_from_0{made.data(), cols, dtype == DType::bf16};
      rows_from_0 = cpu::advance(rows_from_0, -begin * cols);
      make(rows_from_0, begin, end);
      if (!STRAIT_CPU_KERNEL(quantize_rows)(rows_from_0, rule_of(settings), q, begin, end))
        ctx.note_not_finite();
    });
  });
}

void gather_rows(Context& ctx, const Fp8Matrix& x, const Tensor& index_R, Fp8Matrix& out) {
  const int64_t from = x.codes_RC.rows(), cols = x.codes_RC.cols(), rows = index_R.numel();
  check_flat("gather_rows", "index", index_R, rows, {DType::i32});
  check_fp8("gather_rows", "x", x, from, cols, ScaleLayout::rows_1x128);
  check_fp8("gather_rows", "out", out, rows, cols, ScaleLayout::rows_1x128);
  const Cost cost{.bytes = 2 * static_cast<double>(out.codes_RC.bytes() + out.scales.bytes()) +
                           static_cast<double>(index_R.bytes()),
                  .op_class = OpClass::permute};
  ctx.run(cost, [&] {
    const cpu::Fp8Rows q = fp8_rows(x), to = fp8_rows(out);
    const int32_t* index = index_R.data<int32_t>();
    ctx.pool().parallel_for(rows, cpu::row_grain(cols), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) copy_row(q, index[r], to, r);
    });
  });
}

void quantize_columns(Context& ctx, const Tensor& x_RC, const QuantizeSettings& settings,
                      Fp8Matrix& q_CR) {
  check_matrix("quantize_columns", "x", x_RC, kAnySize, kAnySize, kActivationTypes);
  check_fp8("quantize_columns", "q", q_CR, x_RC.cols(), x_RC.rows(), ScaleLayout::rows_1x128);
  ctx.run(cost_of(double(x_RC.bytes()), q_CR.codes_RC, q_CR.scales), [&] {
    const auto kernel = STRAIT_CPU_KERNEL(quantize_columns);
    const cpu::Rows x = cpu::rows_of(x_RC);
    const cpu::Fp8Rows q = fp8_rows(q_CR);
    ctx.pool().parallel_for(num_tiles(q.cols, q.rows), 1, [&](int64_t begin, int64_t end) {
      kernel(x, rule_of(settings), q, begin, end);
    });
  });
}

void requantize_columns(Context& ctx, const Fp8Matrix& q_RC, const QuantizeSettings& settings,
                        Fp8Matrix& q_CR) {
  const int64_t rows = q_RC.codes_RC.rows(), cols = q_RC.codes_RC.cols();
  check_fp8("requantize_columns", "x", q_RC, rows, cols, q_RC.layout);
  check_fp8("requantize_columns", "q", q_CR, cols, rows, ScaleLayout::rows_1x128);
  ctx.run(cost_of(double(q_RC.codes_RC.bytes()), q_CR.codes_RC, q_CR.scales), [&] {
    const auto kernel = STRAIT_CPU_KERNEL(requantize_columns);
    const cpu::Fp8Rows x = fp8_rows(q_RC), q = fp8_rows(q_CR);
    ctx.pool().parallel_for(num_tiles(rows, cols), 1, [&](int64_t begin, int64_t end) {
      kernel(x, rule_of(settings), q, begin, end);
    });
  });
}

void quantize_blocks(Context& ctx, const Tensor& x_RC, const QuantizeSettings& settings,
                     Fp8Matrix& q_RC) {
  check_matrix("quantize_blocks", "x", x_RC, kAnySize, kAnySize, kActivationTypes);
  check_fp8("quantize_blocks", "q", q_RC, x_RC.rows(), x_RC.cols(), ScaleLayout::blocks_128x128);
  ctx.run(cost_of(double(x_RC.bytes()), q_RC.codes_RC, q_RC.scales), [&] {
    const auto kernel = STRAIT_CPU_KERNEL(quantize_blocks);
    const cpu::Rows x = cpu::rows_of(x_RC);
    const cpu::Fp8Rows q = fp8_rows(q_RC);
    ctx.pool().parallel_for(num_tiles(q.rows, q.cols), 1, [&](int64_t begin, int64_t end) {
      if (!kernel(x, rule_of(settings), q, begin, end)) ctx.note_not_finite();
    });
  });
}

Fp8Matrix empty_fp8_columns(Context& ctx, int64_t rows, int64_t cols, int64_t groups,
                            Purpose purpose) {
  const int64_t tiles = rows / kScaleBlock + groups;
  return {ctx.empty({rows, cols}, DType::u8, purpose),
          ctx.empty({tiles * scale_stride(ScaleLayout::columns_128x1, rows, cols)}, DType::f32,
                    purpose),
          ScaleLayout::columns_128x1};
}

namespace {

struct RowTile {
  int64_t row, rows;
};

// run(q, the scales of a tile's rows, tile, first column) over all tiles.
template <class Run>
void run_columns(Context& ctx, const char* op, double bytes, std::span<const int64_t> offsets,
                 Fp8Matrix& q_RC, const Run& run) {
  const int64_t rows = q_RC.codes_RC.rows(), cols = q_RC.codes_RC.cols();
  STRAIT_CHECK(
      q_RC.layout == ScaleLayout::columns_128x1 && !offsets.empty() && offsets.back() <= rows,
      std::string("[") + op + "] needs tiles of 128x1 and offsets within the rows");
  std::vector<RowTile> tiles;
  for (size_t g = 1; g < offsets.size(); ++g)
    for (int64_t row = offsets[g - 1]; row < offsets[g]; row += kScaleBlock)
      tiles.push_back({row, std::min<int64_t>(kScaleBlock, offsets[g] - row)});
  const int64_t stride = scale_stride(q_RC.layout, rows, cols);
  STRAIT_CHECK(q_RC.scales.numel() >= static_cast<int64_t>(tiles.size()) * stride,
               std::string("[") + op + "] too few scales");
  ctx.run(cost_of(bytes, q_RC.codes_RC, q_RC.scales), [&] {
    const cpu::Fp8Rows q = fp8_rows(q_RC);
    const int64_t across = ceil_div(cols, kScaleBlock);
    ctx.pool().parallel_for(
        static_cast<int64_t>(tiles.size()) * across, 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i)
            run(q, q.scales + i / across * stride, tiles[static_cast<size_t>(i / across)],
                i % across * kScaleBlock);
        });
  });
}

}  // namespace

void quantize_columns(Context& ctx, const Tensor& x_RC, std::span<const int64_t> offsets,
                      const QuantizeSettings& settings, Fp8Matrix& q_RC) {
  check_matrix("quantize_columns", "x", x_RC, q_RC.codes_RC.rows(), q_RC.codes_RC.cols(),
               kActivationTypes);
  run_columns(ctx, "quantize_columns", double(x_RC.bytes()), offsets, q_RC,
              [&](const cpu::Fp8Rows& q, float* scales, RowTile tile, int64_t col) {
                STRAIT_CPU_KERNEL(quantize_columns_at)
                (cpu::rows_of(x_RC), rule_of(settings), q, scales, tile.row, tile.rows, col);
              });
}

void requantize_columns(Context& ctx, const Fp8Matrix& x_RC, std::span<const int64_t> offsets,
                        const QuantizeSettings& settings, Fp8Matrix& q_RC) {
  check_fp8("requantize_columns", "x", x_RC, q_RC.codes_RC.rows(), q_RC.codes_RC.cols(),
            ScaleLayout::rows_1x128);
  run_columns(ctx, "requantize_columns", double(x_RC.codes_RC.bytes() + x_RC.scales.bytes()),
              offsets, q_RC, [&](const cpu::Fp8Rows& q, float* scales, RowTile tile, int64_t col) {
                STRAIT_CPU_KERNEL(requantize_columns_at)
                (fp8_rows(x_RC), rule_of(settings), q, scales, tile.row, tile.rows, col);
              });
}

Fp8Matrix fp8_rows_of(Context& ctx, const Tensor& x_RC, const QuantizeSettings& settings,
                      Purpose purpose) {
  Fp8Matrix q = empty_fp8(ctx, x_RC.rows(), x_RC.cols(), ScaleLayout::rows_1x128, purpose);
  quantize_rows(ctx, x_RC, settings, q);
  return q;
}

Fp8Matrix fp8_columns_of(Context& ctx, const Tensor& x_RC, std::span<const int64_t> offsets,
                         const QuantizeSettings& settings, Purpose purpose) {
  Fp8Matrix q = empty_fp8_columns(ctx, x_RC.rows(), x_RC.cols(),
                                  static_cast<int64_t>(offsets.size()) - 1, purpose);
  quantize_columns(ctx, x_RC, offsets, settings, q);
  return q;
}

Fp8Blocks fp8_blocks_of(Context& ctx, const Tensor& x_RC, std::span<const int64_t> offsets,
                        const QuantizeSettings& settings, Purpose purpose) {
  const int64_t rows = x_RC.rows(), cols = x_RC.cols();
  Fp8Blocks q;
  q.columns = empty_fp8_columns(ctx, rows, cols, static_cast<int64_t>(offsets.size()) - 1, purpose);
  q.rows = {q.columns.codes_RC,
            ctx.empty({num_scales(ScaleLayout::rows_1x128, rows, cols)}, DType::f32, purpose)};
  const int64_t row_stride = scale_stride(q.rows.layout, rows, cols);
  const int64_t column_stride = scale_stride(q.columns.layout, rows, cols);
  int64_t tile = 0;
  for (size_t g = 1; g < offsets.size(); ++g) {
    const int64_t first = offsets[g - 1], count = offsets[g] - first;
    if (count == 0) continue;
    Fp8Matrix blocks{
        q.rows.codes_RC.slice_rows(first, count),
        ctx.empty({num_scales(ScaleLayout::blocks_128x128, count, cols)}, DType::f32, purpose),
        ScaleLayout::blocks_128x128};
    quantize_blocks(ctx, x_RC.slice_rows(first, count), settings, blocks);
    ctx.run(cost_of(0, q.rows.scales, q.columns.scales), [&] {
      const auto scale = [&](int64_t r, int64_t c) {
        return blocks.scales.data<float>()[scale_index(blocks.layout, count, cols, r, c)];
      };
      for (int64_t c = 0; c < cols; c += kScaleBlock)
        for (int64_t r = 0; r < count; ++r)
          q.rows.scales.data<float>()[c / kScaleBlock * row_stride + first + r] = scale(r, c);
      for (int64_t r = 0; r < count; r += kScaleBlock)
        for (int64_t c = 0; c < cols; ++c)
          q.columns.scales.data<float>()[(tile + r / kScaleBlock) * column_stride + c] =
              scale(r, c);
    });
    tile += ceil_div(count, kScaleBlock);
  }
  return q;
}

void dequantize(Context& ctx, const Fp8Matrix& q_RC, Tensor& x_RC) {
  check_matrix("dequantize", "x", x_RC, kAnySize, kAnySize, kActivationTypes);
  check_fp8("dequantize", "q", q_RC, x_RC.rows(), x_RC.cols(), q_RC.layout);
  ctx.run(cost_of(double(x_RC.bytes()), q_RC.codes_RC, q_RC.scales), [&] {
    const auto kernel = STRAIT_CPU_KERNEL(dequantize);
    const cpu::Rows x = cpu::rows_of(x_RC);
    const cpu::Fp8Rows q = fp8_rows(q_RC);
    ctx.pool().parallel_for(q.rows, cpu::row_grain(q.cols),
                            [&](int64_t begin, int64_t end) { kernel(q, x, begin, end); });
  });
}

void pack_fp8_wire(Context& ctx, const Fp8Matrix& q, const Tensor& rows_R, Tensor& wire) {
  const int64_t from = q.codes_RC.rows(), cols = q.codes_RC.cols(), words = fp8_wire_words(cols);
  check_fp8("pack_fp8_wire", "q", q, from, cols, ScaleLayout::rows_1x128);
  check_flat("pack_fp8_wire", "rows", rows_R, wire.rows(), {DType::i32});
  check_flat("pack_fp8_wire", "wire", wire, wire.rows() * words, {DType::f32});
  STRAIT_CHECK(cols % 4 == 0, "[pack_fp8_wire] rows of whole words");
  const Cost cost{.bytes = 2 * static_cast<double>(wire.bytes()), .op_class = OpClass::permute};
  ctx.run(cost, [&] {
    const cpu::Fp8Rows of_q = fp8_rows(q), to = wire_rows(wire, cols);
    const int32_t* rows = rows_R.data<int32_t>();
    ctx.pool().parallel_for(wire.rows(), cpu::row_grain(cols), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) copy_row(of_q, rows[r], to, r);
    });
  });
}

bool encode_fp8_wire_part(const Tensor& x_RC, const QuantizeSettings& settings, int64_t begin,
                          int64_t end, const Tensor& wire) {
  return STRAIT_CPU_KERNEL(quantize_rows)(cpu::rows_of(x_RC), rule_of(settings),
                                          wire_rows(wire, x_RC.cols()), begin, end);
}

void encode_fp8_wire(Context& ctx, const Tensor& x_RC, const QuantizeSettings& settings,
                     const Tensor& wire) {
  check_matrix("encode_fp8_wire", "x", x_RC, kAnySize, kAnySize, kActivationTypes);
  check_flat("encode_fp8_wire", "wire", wire, x_RC.rows() * fp8_wire_words(x_RC.cols()),
             {DType::f32});
  ctx.run({.bytes = static_cast<double>(x_RC.bytes() + wire.bytes())}, [&] {
    ctx.pool().parallel_for(x_RC.rows(), cpu::row_grain(x_RC.cols()),
                            [&](int64_t begin, int64_t end) {
                              if (!encode_fp8_wire_part(x_RC, settings, begin, end, wire))
                                ctx.note_not_finite();
                            });
  });
}

void unpack_fp8_wire(Context& ctx, const Tensor& wire, Fp8Matrix& q_RC) {
  const int64_t rows = wire.rows(), cols = q_RC.codes_RC.cols(), words = fp8_wire_words(cols);
  check_flat("unpack_fp8_wire", "wire", wire, rows * words, {DType::f32});
  check_fp8("unpack_fp8_wire", "q", q_RC, rows, cols, ScaleLayout::rows_1x128);
  ctx.run({.bytes = 2 * static_cast<double>(wire.bytes())}, [&] {
    const cpu::Fp8Rows from = wire_rows(wire, cols), q = fp8_rows(q_RC);
    ctx.pool().parallel_for(rows, cpu::row_grain(cols), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) copy_row(from, r, q, r);
    });
  });
}

void unpack_fp8_wire(Context& ctx, const Tensor& wire, Tensor& x_RC) {
  const int64_t cols = x_RC.cols(), words = fp8_wire_words(cols);
  check_flat("unpack_fp8_wire", "wire", wire, x_RC.rows() * words, {DType::f32});
  check_matrix("unpack_fp8_wire", "x", x_RC, kAnySize, kAnySize, kActivationTypes);
  const Cost cost{.bytes = static_cast<double>(wire.bytes() + x_RC.bytes())};
  ctx.run(cost, [&] {
    const auto kernel = STRAIT_CPU_KERNEL(dequantize);
    const cpu::Fp8Rows q = wire_rows(wire, cols);
    ctx.pool().parallel_for(q.rows, cpu::row_grain(cols), [&](int64_t begin, int64_t end) {
      kernel(q, cpu::rows_of(x_RC), begin, end);
    });
  });
}

E5m6Matrix empty_e5m6(Context& ctx, int64_t rows, int64_t cols, Purpose purpose) {
  return {ctx.empty({rows, 3 * ceil_div(cols, 2)}, DType::u8, purpose),
          ctx.empty({num_scales(ScaleLayout::rows_1x128, rows, cols)}, DType::f32, purpose)};
}

namespace {

// kernel(x, q, begin, end) over the rows.
template <class Kernel>
void run_e5m6(const char* op, Context& ctx, const Tensor& x_RC, const E5m6Matrix& q,
              const Kernel& kernel) {
  const int64_t rows = x_RC.rows(), cols = x_RC.cols();
  check_matrix(op, "x", x_RC, kAnySize, kAnySize, kActivationTypes);
  check_flat(op, "q", q.bytes, rows * 3 * ceil_div(cols, 2), {DType::u8});
  check_flat(op, "scales", q.scales, num_scales(ScaleLayout::rows_1x128, rows, cols), {DType::f32});
  ctx.run(cost_of(double(x_RC.bytes()), q.bytes, q.scales), [&] {
    const cpu::Rows x = cpu::rows_of(x_RC);
    const cpu::Fp8Rows fp8 = fp8_rows(q.bytes, q.scales, rows, cols, ScaleLayout::rows_1x128);
    ctx.pool().parallel_for(rows, cpu::row_grain(cols),
                            [&](int64_t begin, int64_t end) { kernel(x, fp8, begin, end); });
  });
}

}  // namespace

void quantize_e5m6(Context& ctx, const Tensor& x_RC, E5m6Matrix& q_RC) {
  run_e5m6("quantize_e5m6", ctx, x_RC, q_RC, [&](auto x, auto q, int64_t begin, int64_t end) {
    if (!STRAIT_CPU_KERNEL(quantize_e5m6)(x, q, begin, end)) ctx.note_not_finite();
  });
}

void dequantize_e5m6(Context& ctx, const E5m6Matrix& q_RC, Tensor& x_RC) {
  run_e5m6("dequantize_e5m6", ctx, x_RC, q_RC, [&](auto x, auto q, int64_t begin, int64_t end) {
    STRAIT_CPU_KERNEL(dequantize_e5m6)(q, x, begin, end);
  });
}

}  // namespace strait
