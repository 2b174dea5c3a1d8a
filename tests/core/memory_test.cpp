#include "core/memory.h"

#include <gtest/gtest.h>

#include "core/context.h"

namespace strait {
namespace {

TEST(Memory, ReusesFreedNeighboursAndAccountsByPurpose) {
  Memory memory(Device::meta);
  const auto a = memory.allocate(100, Purpose::weights);
  const auto b = memory.allocate(64, Purpose::activations);
  const auto c = memory.allocate(64, Purpose::activations);
  EXPECT_EQ(a.bytes, 128);
  EXPECT_EQ(memory.live().total(), 256);
  memory.release(a, Purpose::weights);
  memory.release(b, Purpose::activations);
  const auto d = memory.allocate(192, Purpose::routed);  // fits exactly where a and b were
  EXPECT_EQ(d.offset, 0);
  EXPECT_EQ(memory.high_water_bytes(), 256);
  EXPECT_EQ(memory.at_peak().total(), 256);
  EXPECT_EQ(memory.peak_by_purpose().bytes[static_cast<int>(Purpose::activations)], 128);
  memory.release(c, Purpose::activations);
  memory.release(d, Purpose::routed);
  EXPECT_EQ(memory.live().total(), 0);
}

TEST(Memory, MetaAndCpuGiveTheSameOffsets) {
  Memory meta(Device::meta), cpu(Device::cpu);
  for (int64_t bytes : {1, 1000, 64, 0, 4096}) {
    const auto x = meta.allocate(bytes, Purpose::workspace);
    const auto y = cpu.allocate(bytes, Purpose::workspace);
    EXPECT_EQ(x.offset, y.offset);
    EXPECT_EQ(x.data, nullptr);
    if (bytes > 0) {
      ASSERT_NE(y.data, nullptr);
      y.data[bytes - 1] = std::byte{1};
    }
  }
}

// Zeros on memory that no block has had yet need no writing; on reused memory they do.
TEST(Memory, KnowsWhatNobodyHasTouched) {
  Memory memory(Device::cpu);
  const auto a = memory.allocate(1000, Purpose::workspace);
  EXPECT_TRUE(a.untouched);
  a.data[999] = std::byte{1};
  memory.release(a, Purpose::workspace);
  memory.reset_peaks();
  const auto again = memory.allocate(1000, Purpose::workspace);
  EXPECT_FALSE(again.untouched);
  const auto over = memory.allocate(5000, Purpose::workspace);
  EXPECT_TRUE(over.untouched);
  memory.release(over, Purpose::workspace);
  memory.release(again, Purpose::workspace);
  EXPECT_FALSE(
      memory.allocate(9000, Purpose::workspace).untouched);  // part of it was handed out before
  EXPECT_FALSE(Memory(Device::meta).allocate(64, Purpose::workspace).untouched);

  Context context(Device::cpu, 1);
  for (int round = 0; round < 2; ++round) {
    Tensor tensor = context.zeros({1000}, DType::f32, Purpose::workspace);
    for (const float value : tensor.span<float>()) ASSERT_EQ(value, 0.0f);
    for (float& value : tensor.span<float>()) value = 1;
  }
}

// AddressSanitizer sees what lies outside the blocks that are handed out, though all is one
// mapping.
TEST(MemoryDeathTest, GuardsItsBlocks) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Memory memory(Device::cpu);
  const auto block = memory.allocate(100, Purpose::workspace);
  const auto freed = memory.allocate(1000, Purpose::workspace);
  volatile std::byte* data = block.data;
  data[99] = std::byte{1};
  EXPECT_DEATH(data[104] = std::byte{1}, "use-after-poison");
  memory.release(freed, Purpose::workspace);
  EXPECT_DEATH(data[128 + 500] = std::byte{1}, "use-after-poison");
  EXPECT_DEATH(data[100000] = std::byte{1}, "use-after-poison");
#else
  GTEST_SKIP() << "built without AddressSanitizer";
#endif
}

TEST(Tensor, SlicesShareStorage) {
  Context context(Device::cpu, 1);
  Tensor matrix = context.zeros({3, 4}, DType::f32, Purpose::workspace);
  Tensor middle = matrix.slice_rows(1, 1).slice_cols(2, 2);
  middle.data<float>()[0] = 5;
  EXPECT_EQ(matrix.data<float>()[6], 5);
  EXPECT_EQ(matrix.slice_cols(0, 2).row_stride(), 4);
  EXPECT_THROW(matrix.data<int32_t>(), InternalError);
}

}  // namespace
}  // namespace strait
