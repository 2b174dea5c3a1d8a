// Attention through cuDNN and by the plain kernels, against its definition in double precision.
#include <gtest/gtest.h>

#include <string>

#include "tests/gpu/attention_data.h"

namespace strait::cuda {
namespace {

// BF16 outputs are rounded to 2^-9 of a value; cuDNN also rounds the weights it multiplies with V.
constexpr double kPlainDistance = 4e-3, kCudnnDistance = 1e-2, kStatsDistance = 1e-5;

class Handle {
 public:
  Handle() { STRAIT_CUDNN_CALL(cudnnCreate(&handle_)); }
  ~Handle() { cudnnDestroy(handle_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  cudnnHandle_t get() const { return handle_; }

 private:
  cudnnHandle_t handle_ = nullptr;
};

AttentionResult by_cudnn(const AttentionData& data, bool deterministic) {
  const Handle handle;
  const CudnnAttention attention(handle.get(), data.shape, deterministic);
  const Buffer scratch = poisoned(attention.scratch_bytes());
  const AttentionOnDevice device(data);
  attention.forward(device.forward(), scratch.data(), nullptr);
  attention.backward(device.backward(), scratch.data(), nullptr);
  return device.result();
}

AttentionResult by_plain_kernels(const AttentionData& data) {
  const AttentionShape& s = data.shape;
  const Buffer row_dots = poisoned(s.batch * s.heads * s.length * 4);
  const AttentionOnDevice device(data);
  attention_forward_plain(s, device.forward(), nullptr);
  attention_backward_plain(s, device.backward(), row_dots.as<float>(), nullptr);
  return device.result();
}

void expect_near(const AttentionResult& got, const AttentionResult& want, double most) {
  EXPECT_LT(distance(got.o, want.o), most) << "O";
  EXPECT_LT(distance(got.stats, want.stats), kStatsDistance) << "stats";
  EXPECT_LT(distance(got.dv, want.dv), most) << "dV";
  EXPECT_LT(distance(got.dk, want.dk), most) << "dK";
  EXPECT_LT(distance(got.dq, want.dq), most) << "dQ";
}

class AttentionShapes : public GpuTest, public ::testing::WithParamInterface<AttentionShape> {};

TEST_P(AttentionShapes, PlainKernelsEqualTheDefinition) {
  const AttentionData data(GetParam());
  expect_near(by_plain_kernels(data), attention_reference(data), kPlainDistance);
}
TEST_P(AttentionShapes, CudnnEqualsTheDefinition) {
  const AttentionData data(GetParam());
  expect_near(by_cudnn(data, false), attention_reference(data), kCudnnDistance);
}
TEST_P(AttentionShapes, CudnnDeterministicEqualsTheDefinitionAndItself) {
  const AttentionData data(GetParam());
  const AttentionResult first = by_cudnn(data, true), second = by_cudnn(data, true);
  expect_near(first, attention_reference(data), kCudnnDistance);
  EXPECT_EQ(first.o, second.o);
  EXPECT_EQ(first.dq, second.dq);
  EXPECT_EQ(first.dk, second.dk);
  EXPECT_EQ(first.dv, second.dv);
}

INSTANTIATE_TEST_SUITE_P(Sizes, AttentionShapes,
                         ::testing::Values(AttentionShape{1, 2, 128, 192, 128},
                                           AttentionShape{2, 3, 100, 192, 128},
                                           AttentionShape{1, 2, 257, 192, 128},
                                           AttentionShape{1, 4, 64, 24, 16},
                                           AttentionShape{1, 1, 32, 192, 128}),
                         [](const auto& info) {
                           const AttentionShape& s = info.param;
                           return "b" + std::to_string(s.batch) + "h" + std::to_string(s.heads) +
                                  "s" + std::to_string(s.length) + "d" + std::to_string(s.qk_dim);
                         });

class AttentionOnGpu : public GpuTest {};

TEST_F(AttentionOnGpu, CudnnEqualsPlainKernelsAt1024) {
  const AttentionData data({2, 16, 1024, 192, 128});
  expect_near(by_cudnn(data, false), by_plain_kernels(data), kCudnnDistance);
}

TEST_F(AttentionOnGpu, LaterTokensChangeNothingBefore) {
  AttentionData data({1, 2, 256, 192, 128});
  const AttentionResult before = by_cudnn(data, true), plain_before = by_plain_kernels(data);
  constexpr int64_t kChanged = 131;
  for (int64_t row = kChanged; row < data.shape.length; ++row)
    for (int64_t i = 0; i < data.shape.heads * data.shape.qk_dim; ++i)
      data.k[data.at(0, row, 0, data.shape.qk_dim) + size_t(i)] = bf16_bits(3);
  const AttentionResult after = by_cudnn(data, true), plain_after = by_plain_kernels(data);
  const size_t kept = data.at(0, kChanged, 0, data.shape.v_dim);
  for (size_t i = 0; i < kept; ++i) {
    ASSERT_EQ(before.o[i], after.o[i]) << i;
    ASSERT_EQ(plain_before.o[i], plain_after.o[i]) << i;
  }
  EXPECT_NE(before.o, after.o);
}

}  // namespace
}  // namespace strait::cuda
