#include "core/tensor.h"

#include <gtest/gtest.h>

#include "core/context.h"

namespace strait {
namespace {

TEST(Shapes, CountAndSayWhatTheyHold) {
  EXPECT_EQ((Shape{4, 512}).str(), "[4, 512]");
  EXPECT_EQ((Shape{4, 512}).numel(), 2048);
  EXPECT_EQ(Shape().numel(), 1);
  EXPECT_EQ((Shape{3, 0, 5}).numel(), 0);
  EXPECT_EQ((Shape{1, 2}), (Shape{1, 2}));
  EXPECT_NE((Shape{1, 2}), (Shape{2}));
  EXPECT_THROW((Shape{-1}), InternalError);
  EXPECT_THROW((Shape{1, 1, 1, 1, 1}), InternalError);
}

TEST(Tensors, ShareStorageAndFreeItLast) {
  Context ctx(Device::cpu, 1);
  Tensor view;
  {
    const Tensor whole = ctx.zeros({4, 3}, DType::f32, Purpose::activations);
    EXPECT_TRUE(whole.unique());
    view = whole.slice_rows(1, 2);
    EXPECT_FALSE(whole.unique());
    whole.data<float>()[3] = 7;
  }
  EXPECT_TRUE(view.unique());
  EXPECT_EQ(view.data<float>()[0], 7);
  EXPECT_GT(ctx.memory().live().total(), 0);
  view = Tensor();
  EXPECT_EQ(ctx.memory().live().total(), 0);
}

TEST(Tensors, OutliveTheContextThatMadeThem) {
  Tensor tensor;
  {
    Context ctx(Device::cpu, 1);
    tensor = ctx.zeros({5}, DType::i64, Purpose::data);
  }
  EXPECT_EQ(tensor.span<int64_t>()[4], 0);
}

TEST(Tensors, ViewsKnowTheirStride) {
  Context ctx(Device::cpu, 1);
  const Tensor whole = ctx.zeros({2, 3, 4}, DType::bf16, Purpose::activations);
  EXPECT_EQ(whole.rows(), 6);
  EXPECT_EQ(whole.cols(), 4);
  EXPECT_EQ(whole.bytes(), 48);
  const Tensor columns = whole.slice_cols(1, 2);
  EXPECT_EQ(columns.shape(), (Shape{6, 2}));
  EXPECT_EQ(columns.row_stride(), 4);
  EXPECT_FALSE(columns.contiguous());
  EXPECT_EQ(columns.raw() - whole.raw(), 2);
  EXPECT_TRUE(columns.slice_rows(5, 1).contiguous());
  EXPECT_EQ(columns.slice_rows(5, 1).raw() - whole.raw(), (5 * 4 + 1) * 2);
  EXPECT_EQ(whole.view({24}).shape(), Shape{24});
  EXPECT_THROW(columns.view({12}), InternalError);
  EXPECT_THROW(whole.view({23}), InternalError);
  EXPECT_THROW(whole.slice_rows(5, 2), InternalError);
  EXPECT_THROW(whole.slice_cols(-1, 2), InternalError);
  EXPECT_THROW(whole.data<float>(), InternalError);
}

TEST(Tensors, OnMetaHaveShapeAndBillButNoData) {
  Context meta(Device::meta, 1);
  const Tensor tensor = meta.zeros({1000, 1000}, DType::f32, Purpose::weights);
  EXPECT_EQ(tensor.device(), Device::meta);
  EXPECT_EQ(meta.spent().bytes, 4e6);
  EXPECT_EQ(meta.memory().live().bytes[static_cast<size_t>(Purpose::weights)], 4000000);
  EXPECT_THROW(tensor.raw(), InternalError);
  EXPECT_THROW(Tensor().device(), InternalError);
}

TEST(Bfloat16, RoundsToNearestEvenAndKeepsNaN) {
  const auto bits = [](uint32_t pattern) {
    float value;
    std::memcpy(&value, &pattern, 4);
    return to_bfloat16(value).bits;
  };
  EXPECT_EQ(bits(0x3f800000), 0x3f80);
  EXPECT_EQ(bits(0x3f808000), 0x3f80) << "a tie goes to the even neighbour below";
  EXPECT_EQ(bits(0x3f818000), 0x3f82) << "and above";
  EXPECT_EQ(bits(0x3f808001), 0x3f81);
  EXPECT_EQ(bits(0x7f7fffff), 0x7f80) << "beyond the largest number lies infinity";
  EXPECT_EQ(bits(0x7f800001), 0x7fc0);
  EXPECT_EQ(bits(0xffc00000), 0xffc0);
  EXPECT_EQ(bits(0x80000001), 0x8000);
  for (uint32_t i = 0; i < 0x10000; ++i) {
    const bfloat16 value{static_cast<uint16_t>(i)};
    if ((i & 0x7fffu) > 0x7f80u) continue;
    ASSERT_EQ(to_bfloat16(to_float(value)).bits, i);
  }
}

}  // namespace
}  // namespace strait
