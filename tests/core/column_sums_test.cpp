#include "core/ops/cpu/kernels/column_sums.h"

#include "op_test.h"

namespace strait {
namespace {

using test::Numbers;

// The sum of rows [first, first + count) as the tree over all rows adds them: blocks of a power of
// two, the larger one first.
float tree(const std::vector<float>& column, size_t first, size_t count) {
  if (count == 1) return column[first];
  size_t left = 1;
  while (2 * left < count) left *= 2;
  return tree(column, first, left) + tree(column, first + left, count - left);
}

TEST(ColumnSums, AddRowsInAFixedTree) {
  for (long rows : {1L, 2L, 3L, 5L, 8L, 33L}) {
    for (long cols : {1L, 16L, 37L, 100L}) {
      const Numbers numbers =
          test::random_numbers(rows * cols, static_cast<uint32_t>(rows + cols), 1e3);
      std::vector<float> partial(numbers.begin(), numbers.end());
      const std::vector<float> before = partial;
      const long begin = cols / 3;  // columns before it belong to another thread
      STRAIT_CPU_KERNEL(column_sums)(partial.data(), rows, cols, begin, cols);
      Numbers got, expected;
      for (long c = 0; c < cols; ++c) {
        std::vector<float> column;
        for (long r = 0; r < rows; ++r) column.push_back(before[static_cast<size_t>(r * cols + c)]);
        got.push_back(partial[static_cast<size_t>(c)]);
        expected.push_back(c < begin ? column[0] : tree(column, 0, column.size()));
      }
      test::expect_same_bits(got, expected, "sums");
    }
  }
}

}  // namespace
}  // namespace strait
