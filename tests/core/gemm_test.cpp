#include "core/ops/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace strait {
namespace {

constexpr DType kF32 = DType::f32, kBf16 = DType::bf16;

Tensor random_matrix(Context& context, Shape shape, DType dtype, unsigned seed) {
  Tensor tensor = context.empty(shape, dtype, Purpose::activations);
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    const float value = uniform(random);
    if (dtype == kBf16)
      tensor.data<bfloat16>()[i] = to_bfloat16(value);
    else
      tensor.data<float>()[i] = value;
  }
  return tensor;
}

double at(const Tensor& matrix, int64_t row, int64_t col, DType compute = kF32) {
  const int64_t i = row * matrix.row_stride() + col;
  if (matrix.dtype() == kBf16) return to_float(matrix.data<bfloat16>()[i]);
  const float value = matrix.data<float>()[i];
  return compute == kBf16 ? to_float(to_bfloat16(value)) : value;
}

// A sum over the reduction in FP64, with the sum of magnitudes that bounds the rounding error.
struct Exact {
  double sum = 0, magnitude = 0;
  void add(double x, double y) { sum += x * y, magnitude += std::abs(x * y); }
};

void expect_close(const Tensor& result, int64_t row, int64_t col, Exact exact, const char* what) {
  const double relative = result.dtype() == kBf16 ? 1.0 / 256 : 0;
  const double limit = 1e-6 * exact.magnitude + relative * std::abs(exact.sum);
  ASSERT_NEAR(at(result, row, col), exact.sum, limit) << what << " at " << row << ", " << col;
}

std::vector<unsigned char> bytes_of(const Tensor& tensor) {
  std::vector<unsigned char> bytes;
  const auto size = static_cast<int64_t>(size_of(tensor.dtype()));
  for (int64_t row = 0; row < tensor.rows(); ++row) {
    const auto* begin =
        reinterpret_cast<const unsigned char*>(tensor.raw()) + row * tensor.row_stride() * size;
    bytes.insert(bytes.end(), begin, begin + tensor.cols() * size);
  }
  return bytes;
}

struct Dtypes {
  DType x, weight, compute, y;
};
constexpr Dtypes kAllDtypes[] = {{kF32, kF32, kF32, kF32},    {kF32, kF32, kF32, kBf16},
                                 {kF32, kBf16, kF32, kF32},   {kBf16, kBf16, kBf16, kBf16},
                                 {kBf16, kF32, kBf16, kF32},  {kF32, kF32, kBf16, kF32},
                                 {kBf16, kBf16, kBf16, kF32}, {kF32, kBf16, kBf16, kBf16}};

// The experts' rows in every grouped check: empty first, middle and last experts among others.
std::vector<int64_t> offsets_for(int64_t rows, int64_t experts) {
  if (experts == 1) return {0, rows};
  std::vector<int64_t> offsets{0};
  for (int64_t e = 0; e < experts; ++e)
    offsets.push_back(e % 2 == 0 ? offsets.back() : std::min(rows, (e + 1) * rows / experts));
  return offsets;
}

void check_products(Context& context, int64_t rows, int64_t n, int64_t k, int64_t experts,
                    const Dtypes& d, Accumulate accumulate) {
  SCOPED_TRACE(testing::Message() << rows << "x" << n << "x" << k << " experts " << experts << " x "
                                  << name_of(d.x) << " compute " << name_of(d.compute) << " y "
                                  << name_of(d.y));
  const Tensor x = random_matrix(context, {rows, k}, d.x, 1);
  const Tensor dy = random_matrix(context, {rows, n}, d.x, 2);
  const Tensor w = random_matrix(context, {experts, n, k}, d.weight, 3);
  const Tensor y = random_matrix(context, {rows, n}, d.y, 4);
  const Tensor dx = random_matrix(context, {rows, k}, d.y, 5);
  const Tensor dw = random_matrix(context, {experts, n, k}, kF32, 6);
  const Tensor y0 = random_matrix(context, {rows, n}, d.y, 4);
  const Tensor dx0 = random_matrix(context, {rows, k}, d.y, 5);
  const Tensor dw0 = random_matrix(context, {experts, n, k}, kF32, 6);
  const auto offsets = offsets_for(rows, experts);
  PackedWeight packed;
  packed.pack(context, w, d.compute);
  if (experts == 1) {
    linear(context, x, packed, y, accumulate);
    linear_input_gradient(context, dy, packed, dx, accumulate);
    linear_weight_gradient(context, dy, x, dw.view({n, k}), accumulate);
  } else {
    grouped_linear(context, x, offsets, packed, y, accumulate);
    grouped_linear_input_gradient(context, dy, offsets, packed, dx, accumulate);
    grouped_linear_weight_gradient(context, dy, x, offsets, dw, accumulate);
  }
  const auto start = [&](const Tensor& before, int64_t row, int64_t col) {
    Exact exact;
    if (accumulate == Accumulate::yes) exact.add(at(before, row, col), 1);
    return exact;
  };
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t begin = offsets[static_cast<size_t>(e)],
                  end = offsets[static_cast<size_t>(e) + 1];
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t j = 0; j < n; ++j) {
        Exact exact = start(y0, t, j);
        for (int64_t i = 0; i < k; ++i)
          exact.add(at(x, t, i, d.compute), at(w, e * n + j, i, d.compute));
        expect_close(y, t, j, exact, "y");
      }
      for (int64_t i = 0; i < k; ++i) {
        Exact exact = start(dx0, t, i);
        for (int64_t j = 0; j < n; ++j)
          exact.add(at(dy, t, j, d.compute), at(w, e * n + j, i, d.compute));
        expect_close(dx, t, i, exact, "dx");
      }
    }
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t i = 0; i < k; ++i) {
        Exact exact = start(dw0, e * n + j, i);
        for (int64_t t = begin; t < end; ++t) exact.add(at(dy, t, j), at(x, t, i));
        expect_close(dw, e * n + j, i, exact, "dw");
      }
    }
  }
  // Rows past the last offset stay as they were.
  const int64_t rest = rows - offsets.back();
  EXPECT_EQ(bytes_of(y.slice_rows(offsets.back(), rest)),
            bytes_of(y0.slice_rows(offsets.back(), rest)));
}

TEST(Gemm, AgreesWithFloat64) {
  Context context(Device::cpu, 2);
  const int64_t sizes[][3] = {{1, 1, 1},     {5, 3, 7},    {7, 17, 33},  {13, 65, 31},
                              {61, 130, 48}, {96, 64, 96}, {3, 40, 700}, {250, 21, 9},
                              {2, 600, 5},   {530, 16, 24}};
  for (const auto& size : sizes)
    for (const Dtypes& dtypes : kAllDtypes)
      check_products(context, size[0], size[1], size[2], 1, dtypes, Accumulate::no);
}

TEST(Gemm, LongReductionsAndAccumulation) {
  Context context(Device::cpu, 2);
  for (const Dtypes& dtypes : kAllDtypes) {
    check_products(context, 6, 1100, 1031, 1, dtypes, Accumulate::no);
    if (dtypes.y != kF32) continue;
    check_products(context, 10, 70, 1031, 1, dtypes, Accumulate::yes);
    check_products(context, 1031, 18, 7, 1, dtypes, Accumulate::yes);
  }
}

TEST(Gemm, GroupsOfRows) {
  Context context(Device::cpu, 2);
  for (const Dtypes& dtypes : kAllDtypes) {
    check_products(context, 90, 35, 50, 5, dtypes, Accumulate::no);
    check_products(context, 1200, 8, 6, 4, dtypes, Accumulate::no);
    if (dtypes.y == kF32) check_products(context, 33, 24, 70, 4, dtypes, Accumulate::yes);
  }
}

TEST(Gemm, EmptySizes) {
  Context context(Device::cpu, 2);
  for (const Dtypes& dtypes : kAllDtypes) {
    check_products(context, 0, 5, 6, 1, dtypes, Accumulate::no);
    check_products(context, 0, 5, 6, 3, dtypes, Accumulate::no);
    check_products(context, 4, 0, 6, 1, dtypes, Accumulate::no);
    check_products(context, 4, 5, 0, 1, dtypes, Accumulate::no);
  }
}

// Views with a row stride: two halves of one matrix are the operand and the result.
TEST(Gemm, ColumnViews) {
  Context context(Device::cpu, 1);
  for (DType dtype : {kF32, kBf16}) {
    const Tensor wide = random_matrix(context, {19, 101}, dtype, 7);
    const Tensor before = random_matrix(context, {19, 101}, dtype, 7);
    const Tensor weight_wide = random_matrix(context, {30, 50}, kF32, 8);
    const Tensor x = wide.slice_cols(3, 41), y = wide.slice_cols(50, 30);
    PackedWeight packed(Orientation::forward);
    packed.pack(context, weight_wide.slice_cols(5, 41), dtype);
    linear(context, x, packed, y);
    const Tensor dw = context.zeros({30, 60}, kF32, Purpose::gradients);
    linear_weight_gradient(context, y, x, dw.slice_cols(2, 41));
    for (int64_t j = 0; j < 30; ++j) {
      for (int64_t t = 0; t < 19; ++t) {
        Exact exact;
        for (int64_t i = 0; i < 41; ++i) exact.add(at(x, t, i), at(weight_wide, j, i + 5, dtype));
        expect_close(y, t, j, exact, "y");
      }
      for (int64_t i = 0; i < 41; ++i) {
        Exact exact;
        for (int64_t t = 0; t < 19; ++t) exact.add(at(y, t, j), at(x, t, i));
        expect_close(dw, j, i + 2, exact, "dw");
      }
      EXPECT_EQ(at(dw, j, 1), 0);
      EXPECT_EQ(at(dw, j, 43), 0);
    }
    for (int64_t first : {int64_t{0}, int64_t{80}}) {
      const int64_t cols = first == 0 ? 50 : 21;
      EXPECT_EQ(bytes_of(wide.slice_cols(first, cols)), bytes_of(before.slice_cols(first, cols)));
    }
  }
}

struct Results {
  Tensor y, dx, dw;
};
Results run_grouped(Context& context, DType dtype, std::span<const int64_t> offsets) {
  const int64_t rows = offsets.back(), experts = static_cast<int64_t>(offsets.size()) - 1;
  const Tensor x = random_matrix(context, {rows, 700}, dtype, 1);
  const Tensor dy = random_matrix(context, {rows, 330}, dtype, 2);
  PackedWeight packed;
  packed.pack(context, random_matrix(context, {experts, 330, 700}, kF32, 3), dtype);
  Results run{context.empty({rows, 330}, dtype, Purpose::activations),
              context.empty({rows, 700}, dtype, Purpose::activations),
              context.empty({experts, 330, 700}, kF32, Purpose::gradients)};
  grouped_linear(context, x, offsets, packed, run.y);
  grouped_linear_input_gradient(context, dy, offsets, packed, run.dx);
  grouped_linear_weight_gradient(context, dy, x, offsets, run.dw);
  return run;
}

TEST(Gemm, SameBitsOnAnyNumberOfThreads) {
  const std::vector<int64_t> offsets{0, 5, 5, 600, 643};
  for (DType dtype : {kF32, kBf16}) {
    Context one(Device::cpu, 1);
    const Results expected = run_grouped(one, dtype, offsets);
    for (int threads : {2, 4, 7}) {
      Context context(Device::cpu, threads);
      const Results run = run_grouped(context, dtype, offsets);
      EXPECT_EQ(bytes_of(run.y), bytes_of(expected.y)) << threads;
      EXPECT_EQ(bytes_of(run.dx), bytes_of(expected.dx)) << threads;
      EXPECT_EQ(bytes_of(run.dw), bytes_of(expected.dw)) << threads;
    }
  }
}

// A row's result is the same alone, among others, and in a group.
TEST(Gemm, RowsDoNotDependOnEachOther) {
  Context context(Device::cpu, 2);
  for (DType dtype : {kF32, kBf16}) {
    const Tensor x = random_matrix(context, {333, 1100}, dtype, 1);
    const Tensor w = random_matrix(context, {1, 77, 1100}, kF32, 2);
    PackedWeight packed(Orientation::forward);
    packed.pack(context, w, dtype);
    const Tensor all = context.empty({333, 77}, dtype, Purpose::activations);
    linear(context, x, packed, all);
    for (int64_t count : {1, 2, 5, 11, 48, 200}) {
      const int64_t first = 332 - count;
      const Tensor some = context.empty({count, 77}, dtype, Purpose::activations);
      linear(context, x.slice_rows(first, count), packed, some);
      EXPECT_EQ(bytes_of(some), bytes_of(all.slice_rows(first, count))) << count;
    }
  }
}

TEST(Gemm, PackingAgainKeepsTheStorage) {
  Context context(Device::cpu, 2);
  PackedWeight packed;
  EXPECT_FALSE(packed.packed());
  const auto packed_bytes = [&] {
    return context.memory().live().bytes[static_cast<size_t>(Purpose::packed_weights)];
  };
  const Tensor x = random_matrix(context, {4, 30}, kF32, 1);
  const Tensor y = context.empty({4, 20}, kF32, Purpose::activations);
  for (unsigned seed : {2u, 3u}) {
    const Tensor w = random_matrix(context, {20, 30}, kF32, seed);
    const std::byte* before =
        packed.packed() ? packed.storage(Orientation::forward).raw() : nullptr;
    packed.pack(context, w, kF32);
    if (before != nullptr) {
      EXPECT_EQ(packed.storage(Orientation::forward).raw(), before);
    }
    linear(context, x, packed, y);
    Exact exact;
    for (int64_t i = 0; i < 30; ++i) exact.add(at(x, 3, i), at(w, 19, i));
    expect_close(y, 3, 19, exact, "y");
    EXPECT_GE(packed_bytes(), packed.bytes());
  }
  PackedWeight half;
  half.pack(context, random_matrix(context, {64, 64}, kF32, 2), kBf16);
  EXPECT_EQ(half.bytes(), 2 * 64 * 64 * 2);
}

TEST(Gemm, MetaBillsAndPlansWhatTheCpuUses) {
  const auto run = [](Device device) {
    Context context(device, 2);
    const auto empty = [&](Shape shape, DType dtype) {
      return context.empty(shape, dtype, Purpose::activations);
    };
    const Tensor x = empty({40, 600}, kBf16), y = empty({40, 96}, kBf16);
    const Tensor w = empty({3, 96, 600}, kBf16), dw = empty({3, 96, 600}, kF32);
    if (device == Device::cpu)
      for (const Tensor& tensor : {x, y, w})
        std::memset(tensor.raw(), 0, static_cast<size_t>(tensor.bytes()));
    const std::vector<int64_t> offsets{0, 10, 25, 40};
    PackedWeight packed;
    packed.pack(context, w, kBf16);
    context.reset_spent();
    grouped_linear(context, x, offsets, packed, y);
    EXPECT_EQ(context.spent().flops, 2.0 * 40 * 96 * 600);
    EXPECT_EQ(context.spent().bytes, 2.0 * (40 * 600 + 40 * 96 + 3 * 96 * 600));
    grouped_linear_input_gradient(context, y, offsets, packed, x);
    grouped_linear_weight_gradient(context, y, x, offsets, dw);
    EXPECT_EQ(context.spent().flops, 3 * 2.0 * 40 * 96 * 600);
    return context.memory().at_peak().bytes;
  };
  EXPECT_EQ(run(Device::meta), run(Device::cpu));
}

TEST(Gemm, IsRecordedByClassWithItsShape) {
  Context context(Device::meta, 1);
  const auto empty = [&](Shape shape, DType dtype) {
    return context.empty(shape, dtype, Purpose::activations);
  };
  const Tensor x = empty({40, 600}, kBf16), y = empty({40, 96}, kBf16);
  const Tensor w = empty({3, 96, 600}, kBf16), dw = empty({3, 96, 600}, kF32);
  const Tensor router = empty({8, 600}, kF32), wide = empty({40, 600}, kF32);
  const std::vector<int64_t> offsets{0, 10, 25, 40};
  PackedWeight packed, packed_router;
  packed.pack(context, w, kBf16);
  packed_router.pack(context, router, kF32);
  std::vector<Cost> ops;
  context.record_ops(&ops);
  grouped_linear(context, x, offsets, packed, y);
  grouped_linear_input_gradient(context, y, offsets, packed, x);
  grouped_linear_weight_gradient(context, y, x, offsets, dw);
  linear(context, wide, packed_router, empty({40, 8}, kF32));
  context.record_ops(nullptr);
  grouped_linear(context, x, offsets, packed, y);  // nobody listens
  ASSERT_EQ(ops.size(), 4u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(ops[i].op_class, OpClass::expert);
    EXPECT_EQ(ops[i].operands, kBf16);
    EXPECT_EQ(ops[i].gemm.groups, 3);
    EXPECT_EQ(ops[i].gemm.rows, 40);
    EXPECT_EQ(ops[i].gemm.in, i == 1 ? 96 : 600);
    EXPECT_EQ(ops[i].gemm.out, i == 1 ? 600 : 96);
    EXPECT_EQ(ops[i].gemm.weight_gradient, i == 2);
    EXPECT_EQ(ops[i].flops, 2.0 * 40 * 96 * 600);
  }
  EXPECT_EQ(ops[3].op_class, OpClass::linear);
  EXPECT_EQ(ops[3].operands, kF32);
  EXPECT_EQ(ops[3].gemm.out, 8);
}

TEST(Gemm, WrongOperandsAreErrors) {
  Context context(Device::cpu, 1);
  const Tensor x = random_matrix(context, {4, 6}, kF32, 1),
               half = random_matrix(context, {4, 6}, kBf16, 1);
  const Tensor y = random_matrix(context, {4, 5}, kF32, 2),
               half_y = random_matrix(context, {4, 5}, kBf16, 2);
  PackedWeight packed(Orientation::forward);
  EXPECT_THROW(linear(context, x, packed, y), InternalError);
  packed.pack(context, random_matrix(context, {5, 6}, kF32, 3), kF32);
  EXPECT_NO_THROW(linear(context, x, packed, y));
  EXPECT_THROW(linear(context, y, packed, x), InternalError);
  EXPECT_THROW(linear(context, half, packed, y), InternalError);
  EXPECT_THROW(linear(context, x, packed, half_y, Accumulate::yes), InternalError);
  EXPECT_THROW(linear_input_gradient(context, y, packed, x), InternalError);
  EXPECT_THROW(linear_weight_gradient(context, y, x, half_y), InternalError);
  const std::vector<int64_t> falling{0, 4, 2}, too_long{0, 5}, late{1, 4};
  for (const auto& offsets : {falling, too_long, late})
    EXPECT_THROW(grouped_linear(context, x, offsets, packed, y), InternalError);
}

}  // namespace
}  // namespace strait
