#include "core/ops/permute.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "op_test.h"

namespace strait {
namespace {

using test::Numbers;

struct Case {
  int64_t rows, targets, cols;  // rows that are moved, rows of the other side
  DType x, out, index;
};

class Permute : public ::testing::TestWithParam<Case> {
 protected:
  const int64_t rows_ = GetParam().rows, targets_ = GetParam().targets, cols_ = GetParam().cols;
  static Numbers row(const Numbers& numbers, int64_t r, int64_t cols, DType dtype) {
    Numbers result(numbers.begin() + r * cols, numbers.begin() + (r + 1) * cols);
    for (double& value : result) value = test::rounded(value, dtype);
    return result;
  }
};

TEST_P(Permute, GatherCopiesTheNamedRows) {
  const auto& [rows, targets, cols, x_type, out_type, index_type] = GetParam();
  const Numbers x = test::random_numbers(targets * cols, 1, 1, x_type);
  std::mt19937 random(2);
  Numbers index, expected;
  for (int64_t r = 0; r < rows; ++r) {
    index.push_back(static_cast<double>(random() % static_cast<uint32_t>(targets)));
    const Numbers copy = row(x, static_cast<int64_t>(index.back()), cols, out_type);
    expected.insert(expected.end(), copy.begin(), copy.end());
  }
  for (int threads : {1, 2, 4}) {
    Context ctx(Device::cpu, threads);
    Tensor out = test::view_of(ctx, rows, cols, out_type, Numbers(expected.size()));
    gather_rows(ctx, test::view_of(ctx, targets, cols, x_type, x),
                test::tensor_of(ctx, {rows}, index_type, index), out);
    test::expect_same_bits(test::read(out), expected, "out");
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, Permute,
                         ::testing::Values(Case{0, 3, 5, DType::f32, DType::f32, DType::i32},
                                           Case{1, 1, 1, DType::f32, DType::f32, DType::i64},
                                           Case{13, 7, 33, DType::bf16, DType::bf16, DType::i32},
                                           Case{50, 90, 17, DType::f32, DType::bf16, DType::i64},
                                           Case{400, 170, 301, DType::bf16, DType::f32,
                                                DType::i32}));

// Rows of experts for each token, at random: `share` of the experts of the range.
struct Entries {
  std::vector<std::vector<std::pair<int, int>>> of_token;  // {expert, row}, experts ascending
  int num_rows = 0;

  Entries(int64_t tokens, ExpertRange range, double share, uint32_t seed) {
    std::mt19937 random(seed);
    for (int64_t t = 0; t < tokens; ++t) {
      auto& list = of_token.emplace_back();
      for (int64_t expert = range.first; expert < range.last; ++expert)
        if (random() % 1000 < 1000 * share) list.push_back({static_cast<int>(expert), num_rows++});
    }
    // Rows lie in any order.
    std::vector<int> order(static_cast<size_t>(num_rows));
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
    std::shuffle(order.begin(), order.end(), random);
    for (auto& list : of_token)
      for (auto& entry : list) entry.second = order[static_cast<size_t>(entry.second)];
  }
  TreeEntries tensors(Context& ctx) const {
    Numbers offsets{0}, experts, rows;
    for (const auto& list : of_token) {
      for (const auto& [expert, row] : list) experts.push_back(expert), rows.push_back(row);
      offsets.push_back(static_cast<double>(experts.size()));
    }
    const auto make = [&](const Numbers& numbers) {
      return test::tensor_of(ctx, {static_cast<int64_t>(numbers.size())}, DType::i32, numbers);
    };
    return {make(offsets), make(experts), make(rows)};
  }
};

// The definition: a node is the sum of its halves, where a half without entries contributes
// nothing.
std::optional<float> node(const std::vector<std::pair<int, int>>& list, int64_t low, int64_t high,
                          const std::function<float(int)>& row) {
  if (high - low == 1) {
    for (const auto& [expert, at] : list)
      if (expert == low) return row(at);
    return std::nullopt;
  }
  const int64_t middle = low + (high - low) / 2;
  const auto left = node(list, low, middle, row), right = node(list, middle, high, row);
  if (left && right) return *left + *right;
  return left ? left : right;
}

struct TreeCase {
  int64_t tokens;
  ExpertRange range;
  double share;
  int64_t cols;
  DType rows, out;
};

class TreeSums : public ::testing::TestWithParam<TreeCase> {};

TEST_P(TreeSums, FollowTheTreeToTheBit) {
  const auto& [tokens, range, share, cols, row_type, out_type] = GetParam();
  const Entries entries(tokens, range, share, 5);
  const Numbers rows = test::random_numbers(entries.num_rows * cols, 6, 1, row_type);
  const Numbers before = test::random_numbers(tokens * cols, 7, 1, out_type);
  Numbers expected, added, fp64;
  for (int64_t t = 0; t < tokens; ++t) {
    const auto& list = entries.of_token[static_cast<size_t>(t)];
    for (int64_t c = 0; c < cols; ++c) {
      const auto value = [&](int row) {
        return static_cast<float>(rows[static_cast<size_t>(row * cols + c)]);
      };
      const std::optional<float> sum = node(list, range.first, range.last, value);
      expected.push_back(test::rounded(sum.value_or(0), out_type));
      const auto old = static_cast<float>(before[static_cast<size_t>(t * cols + c)]);
      added.push_back(sum ? test::rounded(old + *sum, out_type) : old);
      double plain = 0;
      for (const auto& [expert, row] : list) plain += rows[static_cast<size_t>(row * cols + c)];
      fp64.push_back(plain);
    }
  }
  for (int threads : {1, 2, 4}) {
    Context ctx(Device::cpu, threads);
    const Tensor rows_RH = test::view_of(ctx, entries.num_rows, cols, row_type, rows);
    Tensor out = test::view_of(ctx, tokens, cols, out_type, before);
    tree_sum(ctx, rows_RH, entries.tensors(ctx), range, Accumulate::yes, out);
    test::expect_same_bits(test::read(out), added, "added");
    tree_sum(ctx, rows_RH, entries.tensors(ctx), range, Accumulate::no, out);
    test::expect_same_bits(test::read(out), expected, "sum");
    test::expect_near(test::read(out), fp64, 4 * test::unit(out_type), "sum");
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, TreeSums,
                         ::testing::Values(TreeCase{0, {0, 4}, 1, 3, DType::f32, DType::f32},
                                           TreeCase{1, {0, 1}, 1, 1, DType::f32, DType::f32},
                                           TreeCase{9, {0, 8}, 0.4, 33, DType::f32, DType::f32},
                                           TreeCase{20, {3, 10}, 0.7, 65, DType::bf16, DType::f32},
                                           TreeCase{30, {0, 6}, 1, 128, DType::bf16, DType::bf16},
                                           TreeCase{6, {16, 32}, 0, 20, DType::f32, DType::bf16},
                                           TreeCase{
                                               200, {0, 64}, 0.1, 300, DType::f32, DType::f32}));

// Ranks that own aligned nodes of the tree give the bits of one rank: the partial sum of a node
// enters its parent as one row. Plain sums over the ranks would not, which shows that the data can
// tell.
TEST(TreeSumOp, RanksThatOwnNodesGiveTheBitsOfOne) {
  Context ctx(Device::cpu, 2);
  const int64_t tokens = 40, cols = 70;
  const ExpertRange all{0, 32};
  const Entries entries(tokens, all, 0.3, 8);
  const Numbers rows = test::random_numbers(entries.num_rows * cols, 9);
  const Tensor rows_RH = test::tensor_of(ctx, {entries.num_rows, cols}, DType::f32, rows);
  Tensor whole = ctx.empty({tokens, cols}, DType::f32, Purpose::activations);
  tree_sum(ctx, rows_RH, entries.tensors(ctx), all, Accumulate::no, whole);
  for (int64_t ranks : {2, 4, 8}) {
    Tensor partial = ctx.empty({ranks * tokens, cols}, DType::f32, Purpose::activations);
    Tensor plain = ctx.zeros({tokens, cols}, DType::f32, Purpose::activations);
    Entries parts(tokens, {0, 0}, 0, 0);
    parts.num_rows = static_cast<int>(ranks * tokens);
    for (int64_t p = 0; p < ranks; ++p) {
      const ExpertRange own{32 * p / ranks, 32 * (p + 1) / ranks};
      Entries mine(tokens, {0, 0}, 0, 0);
      for (size_t t = 0; t < entries.of_token.size(); ++t) {
        for (const auto& entry : entries.of_token[t])
          if (entry.first >= own.first && entry.first < own.last) mine.of_token[t].push_back(entry);
        if (mine.of_token[t].empty()) continue;
        parts.of_token[t].push_back(
            {static_cast<int>(own.first), static_cast<int>(p * tokens) + static_cast<int>(t)});
      }
      Tensor sums = partial.slice_rows(p * tokens, tokens);
      tree_sum(ctx, rows_RH, mine.tensors(ctx), own, Accumulate::no, sums);
      tree_sum(ctx, rows_RH, mine.tensors(ctx), own, Accumulate::yes, plain);
    }
    Tensor out = ctx.empty({tokens, cols}, DType::f32, Purpose::activations);
    tree_sum(ctx, partial, parts.tensors(ctx), all, Accumulate::no, out);
    test::expect_same_bits(test::read(out), test::read(whole), "by ranks");
    if (ranks > 2) {
      EXPECT_NE(test::read(plain), test::read(whole)) << "plain sums over " << ranks << " ranks";
    }
  }
}

TEST(PermuteOp, WrongIndicesAreNamed) {
  Context ctx(Device::cpu, 1);
  const Tensor x = test::tensor_of(ctx, {3, 2}, DType::f32, Numbers(6, 1));
  Tensor out = ctx.zeros({2, 2}, DType::f32, Purpose::activations);
  for (double bad : {3.0, -1.0}) {
    const Tensor index = test::tensor_of(ctx, {2}, DType::i32, {0, bad});
    EXPECT_THROW(gather_rows(ctx, x, index, out), InternalError);
  }

  const auto entries = [&](const Numbers& offsets, const Numbers& experts, const Numbers& rows) {
    const auto make = [&](const Numbers& numbers) {
      return test::tensor_of(ctx, {static_cast<int64_t>(numbers.size())}, DType::i32, numbers);
    };
    return TreeEntries{make(offsets), make(experts), make(rows)};
  };
  const ExpertRange range{0, 4};
  tree_sum(ctx, x, entries({0, 1, 3}, {0, 0, 3}, {0, 1, 2}), range, Accumulate::no, out);
  const TreeEntries wrong[] = {
      entries({0, 1, 3}, {0, 0, 4}, {0, 1, 2}),  // an expert outside the range
      entries({0, 1, 3}, {0, 3, 0}, {0, 1, 2}),  // experts that do not ascend
      entries({0, 1, 3}, {0, 1, 1}, {0, 1, 2}),  // an expert twice
      entries({0, 1, 3}, {0, 0, 3}, {0, 1, 3}),  // a row outside
      entries({0, 1, 2}, {0, 0, 3}, {0, 1, 2}),  // an entry nobody owns
      entries({0, 4, 3}, {0, 0, 3}, {0, 1, 2}),  // offsets that fall
      entries({0, 3}, {0, 1, 3}, {0, 1, 2}),     // too few output rows
  };
  for (const TreeEntries& bad : wrong)
    EXPECT_THROW(tree_sum(ctx, x, bad, range, Accumulate::no, out), InternalError);
}

TEST(PermuteOp, BillsOnMeta) {
  Context meta(Device::meta, 1);
  const Tensor x = meta.empty({4, 6}, DType::bf16, Purpose::activations);
  const Tensor index = meta.empty({9}, DType::i32, Purpose::activations);
  Tensor out = meta.empty({9, 6}, DType::bf16, Purpose::routed),
         sums = meta.empty({4, 6}, DType::f32, Purpose::routed);
  gather_rows(meta, x, index, out);
  EXPECT_EQ(meta.spent().bytes, 9 * 4 + 2 * 9 * 6 * 2);
  meta.reset_spent();
  const TreeEntries entries{meta.empty({5}, DType::i32, Purpose::routed), index, index};
  tree_sum(meta, out, entries, {0, 8}, Accumulate::no, sums);
  EXPECT_EQ(meta.spent().flops, 9 * 6);
  EXPECT_EQ(meta.spent().bytes, 9 * 6 * 2 + 4 * 6 * 4);
  Tensor narrow = meta.empty({4, 5}, DType::f32, Purpose::routed);
  EXPECT_THROW(gather_rows(meta, x, index, narrow), InternalError);
  EXPECT_THROW(tree_sum(meta, out, entries, {0, 8}, Accumulate::no, narrow), InternalError);
}

}  // namespace
}  // namespace strait
