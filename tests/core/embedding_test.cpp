#include "core/ops/embedding.h"

#include "op_test.h"

namespace strait {
namespace {

using test::Numbers;

struct Case {
  int64_t tokens, vocabulary, cols;
  DType weight, out;
};

Numbers token_ids(const Case& c) {
  std::mt19937 random(7);
  Numbers ids;
  for (int64_t t = 0; t < c.tokens; ++t)
    ids.push_back(static_cast<double>(random() % static_cast<uint32_t>(c.vocabulary)));
  return ids;
}

class Embedding : public ::testing::TestWithParam<Case> {};

TEST_P(Embedding, CopiesRows) {
  const auto& [tokens, vocabulary, cols, weight_type, out_type] = GetParam();
  Context ctx(Device::cpu, 2);
  const Numbers table = test::random_numbers(vocabulary * cols, 1, 1, weight_type);
  const Numbers ids = token_ids(GetParam());
  Tensor out =
      test::view_of(ctx, tokens, cols, out_type, Numbers(static_cast<size_t>(tokens * cols)));
  embedding(ctx, test::tensor_of(ctx, {tokens}, DType::i32, ids),
            test::view_of(ctx, vocabulary, cols, weight_type, table), out);
  Numbers expected;
  for (double id : ids)
    for (int64_t c = 0; c < cols; ++c)
      expected.push_back(
          test::rounded(table[static_cast<size_t>(static_cast<int64_t>(id) * cols + c)], out_type));
  test::expect_same_bits(test::read(out), expected, "out");
}

// Rows of one id are added in the order of the tokens: FP32 sums of that order, to the bit.
TEST_P(Embedding, BackwardAddsInTheOrderOfTheTokens) {
  const auto& [tokens, vocabulary, cols, weight_type, out_type] = GetParam();
  const Numbers ids = token_ids(GetParam());
  const Numbers d = test::random_numbers(tokens * cols, 2, 1, out_type);
  const Numbers before = test::random_numbers(vocabulary * cols, 3);
  Numbers expected = before, fp64 = before;
  for (size_t t = 0; t < ids.size(); ++t) {
    for (size_t c = 0; c < static_cast<size_t>(cols); ++c) {
      const size_t to = static_cast<size_t>(ids[t]) * static_cast<size_t>(cols) + c;
      const double term = d[t * static_cast<size_t>(cols) + c];
      expected[to] = static_cast<float>(expected[to]) + static_cast<float>(term);
      fp64[to] += term;
    }
  }
  for (int threads : {1, 2, 4}) {
    Context ctx(Device::cpu, threads);
    Tensor d_weight = test::view_of(ctx, vocabulary, cols, DType::f32, before);
    embedding_backward(ctx, test::tensor_of(ctx, {tokens}, DType::i32, ids),
                       test::view_of(ctx, tokens, cols, out_type, d), d_weight);
    test::expect_same_bits(test::read(d_weight), expected, "d_weight");
    test::expect_near(test::read(d_weight), fp64, 1e-5, "d_weight");
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, Embedding,
                         ::testing::Values(Case{0, 3, 4, DType::f32, DType::f32},
                                           Case{1, 1, 1, DType::f32, DType::f32},
                                           Case{17, 5, 33, DType::f32, DType::bf16},
                                           Case{40, 100, 130, DType::bf16, DType::f32},
                                           Case{700, 60, 300, DType::bf16, DType::bf16}));

TEST(EmbeddingOp, ATokenOutsideTheVocabularyIsADataError) {
  Context ctx(Device::cpu, 1);
  const Tensor weight = test::tensor_of(ctx, {3, 2}, DType::f32, Numbers(6, 1));
  Tensor out = ctx.empty({2, 2}, DType::f32, Purpose::activations),
         d_weight = ctx.zeros({3, 2}, DType::f32, Purpose::gradients);
  for (double bad : {3.0, -1.0}) {
    const Tensor ids = test::tensor_of(ctx, {2}, DType::i32, {0, bad});
    EXPECT_THROW(embedding(ctx, ids, weight, out), DataError);
    EXPECT_THROW(embedding_backward(ctx, ids, out, d_weight), DataError);
  }
  EXPECT_EQ(test::read(d_weight), Numbers(6, 0));
  try {
    embedding(ctx, test::tensor_of(ctx, {2}, DType::i32, {0, 3}), weight, out);
  } catch (const DataError& error) {
    EXPECT_STREQ(error.what(),
                 "[embedding] token id 3 at position 1 is outside the vocabulary of 3");
  }
}

TEST(EmbeddingOp, BillsOnMetaAndNamesWhatIsWrong) {
  Context meta(Device::meta, 1);
  const Tensor ids = meta.empty({4}, DType::i32, Purpose::data);
  const Tensor weight = meta.empty({10, 6}, DType::f32, Purpose::weights);
  Tensor out = meta.empty({4, 6}, DType::f32, Purpose::activations);
  embedding(meta, ids, weight, out);
  EXPECT_EQ(meta.spent().bytes, 4 * 4 + 2 * 4 * 6 * 4);
  Tensor d_weight = meta.empty({10, 6}, DType::f32, Purpose::gradients);
  embedding_backward(meta, ids, out, d_weight);
  Tensor narrow = meta.empty({4, 5}, DType::f32, Purpose::activations);
  EXPECT_THROW(embedding(meta, ids, weight, narrow), InternalError);
  EXPECT_THROW(embedding_backward(meta, ids, narrow, d_weight), InternalError);
  EXPECT_THROW(embedding(meta, meta.empty({4}, DType::i64, Purpose::data), weight, out),
               InternalError);
}

}  // namespace
}  // namespace strait
