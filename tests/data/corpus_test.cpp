// Corpora on disk and the order samples are drawn in.
#include "data/corpus/corpus.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include "core/errors.h"
#include "data/corpus/corpus_writer.h"
#include "data/corpus/permutation.h"
#include "data/corpus/sampler.h"
#include "tests/data/test_files.h"

namespace strait {
namespace {

using test::error_of;

class CorpusTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              std::string("strait_corpus_")
                  .append(::testing::UnitTest::GetInstance()->current_test_info()->name())
                  .append(std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  // Documents 0..n-1; document d has d % 7 tokens, all different ids of a counter, then EOS.
  void write(int64_t vocab_size, int64_t num_documents,
             const std::string& name = "corpus.h5") const {
    CorpusWriter writer(path(name),
                        {.vocab_size = vocab_size,
                         .eos_id = 3,
                         .tokenizer_xxh3 = "abc",
                         .source = "made up",
                         .licence = "",
                         .inputs_json = "[]"},
                        0);
    int64_t counter = 0;
    for (int64_t index = 0; index < num_documents; ++index) {
      std::vector<int32_t> tokens;
      for (int64_t token = 0; token < index % 7; ++token)
        tokens.push_back(static_cast<int32_t>(counter++ % vocab_size));
      writer.add(index % 5 == 4 ? Split::held_out : Split::train, tokens, 2 * (index % 7));
    }
    writer.finish();
  }

  std::filesystem::path folder_;
};

TEST_F(CorpusTest, WhatWasWrittenIsRead) {
  for (const int64_t vocab_size : {10, 65536, 65537, 150000}) {
    write(vocab_size, 1000);
    int64_t counter = 0;
    const Corpus train(folder_.string()), held_out(path("corpus.h5"), Split::held_out);
    EXPECT_EQ(train.num_documents(), 800);
    EXPECT_EQ(held_out.num_documents(), 200);
    EXPECT_EQ(train.vocab_size(), vocab_size);
    EXPECT_EQ(train.eos_id(), 3);
    EXPECT_EQ(train.info().source, "made up");
    int64_t train_index = 0, held_out_index = 0, bytes = 0;
    for (int64_t index = 0; index < 1000; ++index) {
      std::vector<int32_t> expected;
      for (int64_t token = 0; token < index % 7; ++token)
        expected.push_back(static_cast<int32_t>(counter++ % vocab_size));
      expected.push_back(3);
      if (index % 5 == 4) {
        ASSERT_EQ(held_out.document(held_out_index++), expected);
      } else {
        ASSERT_EQ(train.document(train_index++), expected);
        bytes += 2 * (index % 7);
      }
    }
    EXPECT_EQ(train.num_bytes(), bytes);
  }
}

TEST_F(CorpusTest, ManyBlocksOfTokens) {
  CorpusWriter writer(path("big.h5"), {.vocab_size = 70000, .eos_id = 0}, 1 << 20);
  std::vector<int32_t> tokens(3'000'000);
  for (size_t index = 0; index < tokens.size(); ++index)
    tokens[index] = static_cast<int32_t>(index % 70000);
  writer.add(Split::train, tokens, 1);
  EXPECT_FALSE(std::filesystem::exists(path("big.h5")));
  writer.finish();
  const Corpus corpus(path("big.h5"));
  tokens.push_back(0);
  EXPECT_EQ(corpus.document(0), tokens);
  EXPECT_EQ(Corpus(path("big.h5"), Split::held_out).num_tokens(), 0);
}

TEST_F(CorpusTest, AnUnfinishedCorpusLeavesNothing) {
  {
    CorpusWriter writer(path("corpus.h5"), {.vocab_size = 5, .eos_id = 0}, 0);
    writer.add(Split::train, {}, 0);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  EXPECT_NE(error_of([&] {
              CorpusWriter(path("corpus.h5"), {.vocab_size = 5, .eos_id = 0}, int64_t{1} << 60);
            }).find("bytes of disk"),
            std::string::npos);
}

TEST_F(CorpusTest, DamagedFilesAreRefused) {
  EXPECT_NE(error_of([&] { Corpus{folder_.string()}; }).find("corpus.h5: is not there"),
            std::string::npos);
  write(100, 5000);
  std::filesystem::copy(path("corpus.h5"), path("cut.h5"));
  std::filesystem::resize_file(path("cut.h5"), std::filesystem::file_size(path("cut.h5")) - 1000);
  EXPECT_NE(error_of([&] { Corpus{path("cut.h5")}; }).find("is cut short"), std::string::npos);

  const auto build = [&](const char* name, int64_t version, std::vector<int64_t> offsets,
                         std::vector<uint16_t> tokens) {
    hdf5::File file = hdf5::File::create(path(name));
    file.set_attribute("/", "format_version", version);
    file.set_attribute("/", "vocab_size", int64_t{10});
    file.set_attribute("/", "eos_id", int64_t{0});
    for (const char* text : {"tokenizer_xxh3", "source", "licence", "inputs"})
      file.set_attribute("/", text, std::string());
    file.create_group("/train");
    file.set_attribute("/train", "bytes", int64_t{0});
    const auto num_tokens = static_cast<int64_t>(tokens.size());
    const auto num_offsets = static_cast<int64_t>(offsets.size());
    file.create_dataset("/train/tokens", {.type = hdf5::Type::u16, .shape = {num_tokens}})
        .write(0, num_tokens, tokens.data());
    file.create_dataset("/train/documents", {.type = hdf5::Type::i64, .shape = {num_offsets}})
        .write(0, num_offsets, offsets.data());
    file.close();
    return error_of([&] {
      const Corpus corpus(path(name));
      std::vector<int32_t> all(static_cast<size_t>(corpus.num_tokens()));
      corpus.read_tokens(0, all);
    });
  };
  EXPECT_EQ(build("good.h5", 1, {0, 2, 4}, {5, 0, 7, 0}), "no DataError");
  EXPECT_NE(build("a.h5", 2, {0, 2, 4}, {5, 0, 7, 0}).find("corpus format 2"), std::string::npos);
  EXPECT_NE(build("b.h5", 1, {0, 2, 5}, {5, 0, 7, 0}).find("the documents need 5"),
            std::string::npos);
  EXPECT_NE(build("c.h5", 1, {0, 3, 2, 4}, {5, 0, 7, 0}).find("offset 2"), std::string::npos);
  EXPECT_NE(build("d.h5", 1, {1, 4}, {5, 0, 7, 0}).find("offset 0"), std::string::npos);
  EXPECT_NE(build("e.h5", 1, {0, 4}, {5, 0, 10, 0}).find("token 2"), std::string::npos);
}

TEST_F(CorpusTest, TokenizerMustBeTheOne) {
  write(100, 10);
  const Corpus corpus(path("corpus.h5"));
  EXPECT_NO_THROW(require_same_tokenizer(corpus, 100, "abc"));
  EXPECT_THROW(require_same_tokenizer(corpus, 101, "abc"), DataError);
  EXPECT_THROW(require_same_tokenizer(corpus, 100, "abd"), DataError);
}

TEST(PermutationTest, IsOneToOne) {
  for (int64_t size = 1; size <= 300; ++size)
    for (const uint64_t key : {uint64_t{0}, mix(7, 1), ~uint64_t{0}}) {
      const Permutation permutation(size, key);
      std::vector<bool> seen(static_cast<size_t>(size));
      for (int64_t index = 0; index < size; ++index) {
        const int64_t value = permutation(index);
        ASSERT_TRUE(value >= 0 && value < size);
        ASSERT_FALSE(seen[static_cast<size_t>(value)]) << size << " " << index;
        seen[static_cast<size_t>(value)] = true;
      }
    }
}

// Over many keys every value must be equally likely at every place (chi-squared, 99.9% bound of 7
// degrees).
TEST(PermutationTest, IsNotBiasedOverKeys) {
  constexpr int64_t kSize = 8, kKeys = 20000;
  for (int64_t index = 0; index < kSize; ++index) {
    std::array<double, kSize> counts{};
    for (uint64_t key = 0; key < kKeys; ++key)
      counts[static_cast<size_t>(Permutation(kSize, mix(11, key))(index))] += 1;
    double chi_squared = 0;
    for (const double count : counts) {
      const double expected = static_cast<double>(kKeys) / kSize;
      chi_squared += (count - expected) * (count - expected) / expected;
    }
    EXPECT_LT(chi_squared, 24.3) << index;
  }
}

TEST(PermutationTest, LargeSizesAreScattered) {
  const int64_t size = (int64_t{1} << 40) + 12345;
  const Permutation permutation(size, 99);
  std::set<int64_t> values;
  int64_t ascending = 0;
  for (int64_t index = 0; index < 10000; ++index) {
    const int64_t value = permutation(index);
    ASSERT_TRUE(value >= 0 && value < size);
    values.insert(value);
    ascending += permutation(index + 1) > value;
  }
  EXPECT_EQ(values.size(), 10000U);
  EXPECT_NEAR(static_cast<double>(ascending), 5000, 250);
}

TEST_F(CorpusTest, SamplerVisitsEveryWindowOnceAnEpoch) {
  write(1000, 500);
  const Corpus corpus(path("corpus.h5"));
  std::vector<int32_t> stream(static_cast<size_t>(corpus.num_tokens()));
  corpus.read_tokens(0, stream);
  for (const int64_t seq_len : {1, 7, 64, static_cast<int>(corpus.num_tokens())})
    for (const int64_t extra : {0, 1, 3}) {
      const Sampler sampler(corpus, seq_len, extra, 42);
      const int64_t windows = sampler.windows_per_epoch();
      ASSERT_EQ(windows, corpus.num_tokens() / seq_len);
      std::vector<int32_t> tokens(static_cast<size_t>(seq_len + extra));
      for (int64_t epoch = 0; epoch < 2; ++epoch) {
        std::set<int64_t> seen;
        for (int64_t index = 0; index < windows; ++index) {
          const int64_t window = sampler.window(epoch * windows + index);
          seen.insert(window);
          sampler.sample(epoch * windows + index, tokens);
          for (int64_t at = 0; at < seq_len + extra; ++at) {
            const int64_t from = window * seq_len + at;
            ASSERT_EQ(tokens[static_cast<size_t>(at)],
                      from < corpus.num_tokens() ? stream[static_cast<size_t>(from)] : -1);
          }
        }
        ASSERT_EQ(static_cast<int64_t>(seen.size()), windows);
      }
    }
}

// Ranks draw disjoint indices of one global order, whatever their number; seeds and epochs differ.
TEST_F(CorpusTest, SampleIsAFunctionOfSeedAndIndex) {
  write(1000, 500);
  const Corpus corpus(path("corpus.h5"));
  const Sampler one(corpus, 8, 1, 5);
  std::vector<int64_t> order;
  for (int64_t index = 0; index < 60; ++index) order.push_back(one.window(index));
  for (const int64_t ranks : {1, 2, 3, 4, 8})
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const Sampler mine(corpus, 8, 1, 5);
      for (int64_t index = rank; index < 60; index += ranks)
        EXPECT_EQ(mine.window(index), order[static_cast<size_t>(index)]);
    }
  const Sampler other(corpus, 8, 1, 6);
  int same_seed = 0, same_epoch = 0;
  for (int64_t index = 0; index < 60; ++index) {
    same_seed += other.window(index) == order[static_cast<size_t>(index)];
    same_epoch += one.window(index + one.windows_per_epoch()) == order[static_cast<size_t>(index)];
  }
  EXPECT_LT(same_seed, 10);
  EXPECT_LT(same_epoch, 10);
}

TEST_F(CorpusTest, SamplerNeedsOneWindow) {
  write(1000, 3);
  const Corpus corpus(path("corpus.h5"));
  EXPECT_THROW(Sampler(corpus, corpus.num_tokens() + 1, 1, 0), DataError);
}

}  // namespace
}  // namespace strait
