// Training: the same merges as the trainer of `tokenizers` on the golden text, and the properties
// of its parts.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "core/errors.h"
#include "data/tokenizer/merge_learner.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/trainer.h"
#include "data/tokenizer/word_counts.h"
#include "tests/data/test_files.h"

namespace strait {
namespace {

using test::tokenizer_golden;

using Json = nlohmann::json;
using WordList = std::vector<std::pair<std::string, int64_t>>;

std::vector<std::string> training_texts() {
  const std::string all = tokenizer_golden("training.txt"), separator = "\n----\n";
  std::vector<std::string> texts;
  for (size_t at = 0; at <= all.size();) {
    const size_t end = std::min(all.find(separator, at), all.size());
    texts.push_back(all.substr(at, end - at));
    at = end + separator.size();
  }
  return texts;
}

std::string trained_on(const std::vector<std::string>& texts, int64_t vocab_size) {
  TokenizerTrainer trainer({.vocab_size = vocab_size});
  for (const std::string& text : texts) trainer.add(text);
  return trainer.train();
}

TEST(TrainerTest, MergesAreThoseOfTokenizers) {
  const Json ours = Json::parse(trained_on(training_texts(), 600));
  const Json theirs = Json::parse(tokenizer_golden("trained.json"));
  EXPECT_EQ(ours["model"]["vocab"], theirs["model"]["vocab"]);
  EXPECT_EQ(ours["model"]["merges"], theirs["model"]["merges"]);
  ASSERT_EQ(ours["model"]["vocab"].size(), 600U);
}

TEST(TrainerTest, TheFileIsATokenizer) {
  const std::string json = trained_on(training_texts(), 500);
  EXPECT_EQ(json, trained_on(training_texts(), 500));
  const Tokenizer tokenizer = Tokenizer::parse(json, "trained", trained_tokenizer_config_json());
  EXPECT_EQ(tokenizer.vocab_size(), 500);
  EXPECT_EQ(tokenizer.bos_id(), 0);
  EXPECT_EQ(tokenizer.eos_id(), 1);
  EXPECT_EQ(tokenizer.token_of(2), kPadding);
  for (int32_t id = 0; id < 3; ++id) EXPECT_TRUE(tokenizer.is_special(id));
  std::string every = std::string("caf\u00e9 \u4f60\u597d \U0001f600 x") + kEndOfSentence + "y";
  for (char32_t value = 0; value < 128; ++value) every.push_back(static_cast<char>(value));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(every)), every);
  EXPECT_EQ(tokenizer.encode(every), tokenizer.encode(every, true));  // no template
}

TEST(TrainerTest, SpecialTokensInTheTextAreNotLearned) {
  const std::string text = "aaa bbb aaa bbb ccc ddd eee fff ggg hhh iii";
  const std::string mark = kEndOfSentence;
  EXPECT_EQ(trained_on({text + " " + text}, 265),
            trained_on({text + mark + " " + mark + text}, 265));
}

TEST(TrainerTest, WhatCannotBeIsRefused) {
  EXPECT_THROW(TokenizerTrainer({.vocab_size = 258}), RecipeError);
  EXPECT_THROW(TokenizerTrainer({.vocab_size = int64_t{1} << 40}), RecipeError);
  EXPECT_THROW(trained_on({"a\xFF"}, 300), DataError);
  try {
    trained_on({"abcd abcd"}, 8192);
    ADD_FAILURE() << "no DataError";
  } catch (const DataError& error) {  // ab, cd, abcd, " abcd"
    EXPECT_NE(std::string(error.what()).find("vocabulary of 263 at most"), std::string::npos)
        << error.what();
  }
  EXPECT_EQ(Json::parse(trained_on({"abcd abcd"}, 263))["model"]["merges"].size(), 4U);
  EXPECT_EQ(Json::parse(trained_on({}, kMinVocabSize))["model"]["merges"].size(), 0U);
}

// The learner's words after each merge, counted from scratch: the merge was a most frequent pair,
// and of those the oldest.
TEST(MergeLearnerTest, EveryMergeIsTheMostFrequentPair) {
  std::mt19937_64 random(5);
  WordList words;
  for (int index = 0; index < 200; ++index) {
    std::string word;
    const size_t length = 1 + random() % 12;
    while (word.size() < length) word.push_back(static_cast<char>('a' + random() % 3));
    words.emplace_back(word, 1 + random() % 20);
  }
  MergeLearner learner(words);
  std::map<std::pair<int32_t, int32_t>, int32_t> merged;
  for (int step = 0; step < 2000; ++step) {
    std::map<std::pair<int32_t, int32_t>, int64_t> counts;
    for (size_t index = 0; index < words.size(); ++index) {
      const std::vector<int32_t> symbols = learner.word(index);
      std::string bytes;
      for (const int32_t symbol : symbols) bytes += learner.symbols()[static_cast<size_t>(symbol)];
      ASSERT_EQ(bytes, words[index].first);
      for (size_t at = 0; at + 1 < symbols.size(); ++at)
        counts[{symbols[at], symbols[at + 1]}] += words[index].second;
    }
    std::pair<int32_t, int32_t> best{-1, -1};
    int64_t most = 0;
    for (const auto& [pair, count] : counts)  // in order of the pairs
      if (count > most) std::tie(best, most) = std::pair{pair, count};
    for (const auto& [pair, symbol] : merged) EXPECT_EQ(counts.count(pair), 0U) << step;
    const auto merge = learner.learn();
    if (most == 0) {
      EXPECT_FALSE(merge);
      return;
    }
    ASSERT_TRUE(merge);
    ASSERT_EQ(std::pair(merge->left, merge->right), best) << step;
    merged[best] = merge->merged;
  }
  FAIL() << "expected the words to run out of pairs";
}

// "-----" comes about in two ways, one symbol; its pairs must not be learned twice.
TEST(MergeLearnerTest, RunsOfOneCharacter) {
  WordList words;
  for (size_t length = 1; length <= 60; ++length)
    words.emplace_back(std::string(length, '-'), 100 - static_cast<int64_t>(length));
  MergeLearner learner(words);
  std::map<std::pair<int32_t, int32_t>, int> seen;
  while (const auto merge = learner.learn())
    EXPECT_EQ(++seen[std::pair(merge->left, merge->right)], 1);
  for (size_t index = 0; index < words.size(); ++index) EXPECT_EQ(learner.word(index).size(), 1U);
}

TEST(WordCountsTest, CountsAndSorts) {
  WordCounts counts(100);
  for (const char* word : {"b", "a", "c", "b", "a", "b"}) counts.add(word);
  EXPECT_EQ(counts.take(), (WordList{{"b", 3}, {"a", 2}, {"c", 1}}));
  EXPECT_EQ(counts.num_words(), 0);
}

TEST(WordCountsTest, LongWordsAreCutBetweenCodePoints) {
  WordCounts counts(100);
  std::string word;
  for (int index = 0; index < 50; ++index) word += "\u4f60";  // 150 bytes
  counts.add(word);
  EXPECT_EQ(counts.take(), (WordList{{word.substr(126), 1}, {word.substr(0, 126), 1}}));
}

TEST(WordCountsTest, MemoryIsBounded) {
  WordCounts counts(1000);
  for (int index = 0; index < 50'000; ++index) {
    counts.add("often" + std::to_string(index % 100));
    counts.add("once" + std::to_string(index));
    ASSERT_LE(counts.num_words(), 1000);
  }
  const WordList words = counts.take();
  for (size_t index = 0; index < 100; ++index) {
    EXPECT_TRUE(words[index].first.starts_with("often")) << words[index].first;
    EXPECT_EQ(words[index].second, 500);
  }
}

}  // namespace
}  // namespace strait
