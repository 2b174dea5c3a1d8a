// Gathers, sums in the fixed tree, counts, the order of experts' rows, and the embedding's gradient
// as kernels.
#include <algorithm>
#include <random>

#include "core/ops/cuda/embedding.h"
#include "core/ops/cuda/expert_blocks.h"
#include "core/ops/cuda/permute.h"
#include "core/ops/embedding.h"
#include "core/ops/permute.h"
#include "core/ops/quantize.h"
#include "core/ops/router.h"
#include "tests/gpu/kernel_test.h"

namespace strait::cuda {
namespace {

class Permute : public KernelTest {
 protected:
  // Random whole numbers in [first, last).
  test::Numbers integers(int64_t count, int first, int last) {
    std::uniform_int_distribution<int> any(first, last - 1);
    test::Numbers numbers(static_cast<size_t>(count));
    for (double& number : numbers) number = any(engine_);
    return numbers;
  }
  Twin indices(const test::Numbers& numbers) {
    return Twin(ctx_, 1, static_cast<int64_t>(numbers.size()), DType::i32, numbers);
  }
  static Tensor flat(const Twin& twin) { return twin.tensor.view({twin.tensor.numel()}); }

  std::mt19937 engine_{1};
};

constexpr DType kTypes[] = {DType::f32, DType::bf16};
struct Columns {
  int64_t cols, gap;
};
constexpr Columns kColumns[] = {{1, 0}, {17, 0}, {64, 8}, {300, 3}, {2048, 0}, {2056, 0}};

TEST_F(Permute, GatherRows) {
  for (const auto [cols, gap] : kColumns) {
    const Twin index = indices(integers(9, 0, 5));
    for (DType in : kTypes) {
      for (DType out : kTypes) {
        const Twin x(ctx_, 5, cols, in, 1, gap);
        Twin y(ctx_, 9, cols, out, 2, gap);
        strait::gather_rows(ctx_, x.tensor, flat(index), y.tensor);
        gather_rows({x.rows(), y.rows(), index.data<int>(), 9, cols}, nullptr);
        y.expect_same("rows");
      }
    }
  }
}

TEST_F(Permute, RowsThatPadAreZeros) {
  const Twin x(ctx_, 3, 20, DType::bf16, 1), index = indices({1, -1, 2});
  Twin y(ctx_, 3, 20, DType::bf16, 2);
  test::Numbers want = test::read(x.tensor);
  std::copy_n(want.begin() + 20, 20, want.begin());
  std::fill_n(want.begin() + 20, 20, 0.0);
  test::write(y.tensor, want);
  gather_rows({x.rows(), y.rows(), index.data<int>(), 3, 20}, nullptr);
  y.expect_same("rows");
}

// What is quantised before it is gathered is what is gathered before it is quantised.
TEST_F(Permute, GatherFp8Rows) {
  for (int64_t cols : {16, 100, 128, 640}) {
    const Twin x(ctx_, 6, cols, DType::bf16, 1);
    const test::Numbers index_numbers = integers(11, 0, 6);
    const Twin index = indices(index_numbers);
    Tensor gathered = ctx_.empty({11, cols}, DType::bf16, Purpose::activations);
    strait::gather_rows(ctx_, x.tensor, flat(index), gathered);
    const auto quantised = [&](const Tensor& from) {
      Fp8Matrix q =
          empty_fp8(ctx_, from.rows(), cols, ScaleLayout::rows_1x128, Purpose::activations);
      std::memset(q.scales.raw(), 0xff, static_cast<size_t>(q.scales.bytes()));
      strait::quantize_rows(ctx_, from, {}, q);
      return q;
    };
    const auto bytes = [](const Tensor& tensor) {
      const auto* begin = reinterpret_cast<const uint8_t*>(tensor.raw());
      return std::vector<uint8_t>{begin, begin + tensor.bytes()};
    };
    const Fp8Matrix tokens = quantised(x.tensor), want = quantised(gathered);
    const Buffer codes = upload(bytes(tokens.codes_RC)), scales = upload(bytes(tokens.scales));
    const Buffer out_codes = poisoned(want.codes_RC.bytes()),
                 out_scales = poisoned(want.scales.bytes());
    gather_fp8_rows({codes.as<uint8_t>(), scales.as<float>(), 6, out_codes.as<uint8_t>(),
                     out_scales.as<float>(), index.data<int>(), 11, cols},
                    nullptr);
    expect_same(download<uint8_t>(out_codes), bytes(want.codes_RC), "codes");
    expect_same(download<uint8_t>(out_scales), bytes(want.scales), "scales");
  }
}

TEST_F(Permute, TreeSum) {
  struct Case {
    int first, last, most;
  };
  for (const auto [first, last, most] :
       {Case{0, 8, 2}, Case{0, 8, 8}, Case{0, 256, 8}, Case{0, 1000, 32}, Case{96, 131, 9}}) {
    // Some rows have nothing, and some the most.
    test::Numbers offsets{0}, experts;
    for (int t = 0; t < 12; t++) {
      const int count = t < 2 ? t * most : static_cast<int>(engine_() % unsigned(most + 1));
      std::vector<double> all(static_cast<size_t>(last - first));
      for (size_t i = 0; i < all.size(); i++) all[i] = first + static_cast<double>(i);
      std::shuffle(all.begin(), all.end(), engine_);
      std::sort(all.begin(), all.begin() + count);
      experts.insert(experts.end(), all.begin(), all.begin() + count);
      offsets.push_back(static_cast<double>(experts.size()));
    }
    const auto entries = static_cast<int64_t>(experts.size());
    const Twin offsets_twin = indices(offsets), experts_twin = indices(experts),
               rows_twin = indices(integers(entries, 0, 20));
    for (const auto [cols, gap] : kColumns) {
      for (DType in : kTypes) {
        for (DType out : kTypes) {
          const Twin x(ctx_, 20, cols, in, 1, gap);
          Twin y(ctx_, 12, cols, out, 2, gap);
          for (bool accumulate : {true, false}) {
            strait::tree_sum(
                ctx_, x.tensor, {flat(offsets_twin), flat(experts_twin), flat(rows_twin)},
                {first, last}, accumulate ? Accumulate::yes : Accumulate::no, y.tensor);
            tree_sum({x.rows(), y.rows(), offsets_twin.data<int>(), experts_twin.data<int>(),
                      rows_twin.data<int>(), first, last, accumulate, 12, cols, most},
                     nullptr);
            y.expect_same("sums");
          }
        }
      }
    }
  }
  TreeSum too_many;
  too_many.most_entries = kMaxTreeEntries + 1;
  EXPECT_THROW(tree_sum(too_many, nullptr), InternalError);
}

TEST_F(Permute, CountExperts) {
  for (int experts : {1, 8, 256, 1024}) {
    const Twin ids = indices(integers(3000, 0, experts));
    Twin counts(ctx_, 1, experts, DType::i64, integers(experts, 0, 9));
    const Buffer as_int = poisoned(experts * 4);
    for (bool accumulate : {true, false}) {
      Tensor counts_E = flat(counts);
      strait::count_experts(ctx_, flat(ids), accumulate ? Accumulate::yes : Accumulate::no,
                            counts_E);
      count_experts(
          {ids.data<int>(), 3000, experts, counts.data<int64_t>(), accumulate, as_int.as<int>()},
          nullptr);
      counts.expect_same("counts");
    }
    const test::Numbers want = test::read(counts.tensor);
    expect_same(download<int>(as_int), std::vector<int>(want.begin(), want.end()), "ints");
  }
  CountExperts too_many;
  too_many.experts = kMaxCountedExperts + 1;
  EXPECT_THROW(count_experts(too_many, nullptr), InternalError);
}

// From ids alone, counts never on the host: gathered rows, and their sums, are those of the CPU.
TEST_F(Permute, OrderByExpert) {
  for (const auto [tokens, top_k, experts] : {std::array{1, 1, 1}, {70, 2, 4}, {45, 8, 64}}) {
    std::vector<int> ids;
    for (int t = 0; t < tokens; t++) {
      std::vector<int> all(static_cast<size_t>(experts));
      for (int e = 0; e < experts; e++) all[static_cast<size_t>(e)] = e;
      std::shuffle(all.begin(), all.end(), engine_);
      ids.insert(ids.end(), all.begin(), all.begin() + top_k);
    }
    // By the plainest code.
    const int max_blocks = (tokens * top_k + 127) / 128 + experts;
    const auto max_rows = static_cast<size_t>(max_blocks) * 128;
    std::vector<int> pair_of_row(max_rows, -1), token_of_row(max_rows, -1), offsets, experts_of,
        rows_of;
    std::vector<int> row_of_pair(ids.size());
    size_t row = 0;
    for (int e = 0; e < experts; e++) {
      for (size_t pair = 0; pair < ids.size(); pair++) {
        if (ids[pair] != e) continue;
        pair_of_row[row] = static_cast<int>(pair);
        token_of_row[row] = static_cast<int>(pair) / top_k;
        row_of_pair[pair] = static_cast<int>(row++);
      }
      row = (row + 127) / 128 * 128;
    }
    for (int t = 0; t < tokens; t++) {
      offsets.push_back(t * top_k);
      for (int e = 0; e < experts; e++) {
        for (int k = 0; k < top_k; k++) {
          const auto pair =
              static_cast<size_t>(t) * static_cast<size_t>(top_k) + static_cast<size_t>(k);
          if (ids[pair] != e) continue;
          experts_of.push_back(e);
          rows_of.push_back(row_of_pair[pair]);
        }
      }
    }
    offsets.push_back(tokens * top_k);

    const auto buffer = [](size_t ints) { return poisoned(static_cast<int64_t>(ints) * 4); };
    const Buffer ids_d = upload(ids), counts = buffer(experts), first = buffer(experts),
                 end = buffer(experts), num = buffer(1), owner = buffer(max_blocks);
    const Buffer pair_d = buffer(max_rows), token_d = buffer(max_rows), row_d = buffer(ids.size()),
                 offsets_d = buffer(offsets.size()), experts_d = buffer(ids.size()),
                 rows_d = buffer(ids.size());
    count_experts({ids_d.as<int>(), static_cast<int64_t>(ids.size()), experts, nullptr, false,
                   counts.as<int>()},
                  nullptr);
    find_expert_blocks({counts.as<int>(), experts, max_blocks, first.as<int>(), end.as<int>(),
                        num.as<int>(), owner.as<int>()},
                       nullptr);
    order_by_expert({ids_d.as<int>(), tokens, top_k, experts, first.as<int>(),
                     static_cast<int64_t>(max_rows), pair_d.as<int>(), token_d.as<int>(),
                     row_d.as<int>(), offsets_d.as<int>(), experts_d.as<int>(), rows_d.as<int>()},
                    nullptr);
    expect_same(download<int>(pair_d), pair_of_row, "pairs");
    expect_same(download<int>(token_d), token_of_row, "tokens");
    expect_same(download<int>(row_d), row_of_pair, "rows of pairs");
    expect_same(download<int>(offsets_d), offsets, "offsets");
    expect_same(download<int>(experts_d), experts_of, "experts");
    expect_same(download<int>(rows_d), rows_of, "rows");
  }
}

TEST_F(Permute, EmbeddingBackward) {
  for (const auto [cols, gap] : kColumns) {
    for (int64_t tokens : {1, 150}) {
      const Twin ids = indices(integers(tokens, 0, 7));  // many of the same, and some of none
      for (DType type : kTypes) {
        const Twin d(ctx_, tokens, cols, type, 1, gap);
        Twin table(ctx_, 7, cols, DType::f32, 2);
        strait::embedding_backward(ctx_, flat(ids), d.tensor, table.tensor);
        embedding_backward({ids.data<int>(), d.rows(), table.data<float>(), tokens, cols}, nullptr);
        table.expect_same("table");
      }
    }
  }
}

}  // namespace
}  // namespace strait::cuda
