// Tokenizers against what the library `tokenizers` made of the same files and texts
// (tests/oracle/tokenizers), and what a file may not hold.
#include "data/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/errors.h"
#include "data/tokenizer/pattern.h"
#include "data/tokenizer/utf8.h"
#include "tests/data/test_files.h"

namespace strait {
namespace {

using test::error_of;
using test::tokenizer_golden;

using Json = nlohmann::json;

class Families : public ::testing::TestWithParam<const char*> {
 protected:
  std::string name() const { return GetParam(); }
  Tokenizer tokenizer() const {
    return Tokenizer::parse(tokenizer_golden(name() + ".json"), name());
  }
  Json cases() const { return Json::parse(tokenizer_golden(name() + ".cases.json")); }
};

TEST_P(Families, IdsAndTextAreThoseOfTokenizers) {
  const Tokenizer tokenizer = this->tokenizer();
  const Json cases = this->cases();
  ASSERT_GE(cases.size(), 20U);
  Encoder encoder(tokenizer);
  for (const Json& expected : cases) {
    const std::string text = expected["text"];
    const std::vector<int32_t> ids = expected["ids"];
    EXPECT_EQ(tokenizer.encode(text), ids) << text;
    if (ids.size() < 40) {
      EXPECT_EQ(tokenizer.encode(text, true), expected.value("with_special", ids)) << text;
    }
    EXPECT_EQ(tokenizer.decode(ids), expected.value("decoded", text));
    std::vector<int32_t> again;  // with a warm cache
    for (int round = 0; round < 2; ++round) {
      again.clear();
      encoder.encode(text, again);
      EXPECT_EQ(again, ids) << text;
    }
  }
}

TEST_P(Families, AStreamDecodesToTheSameText) {
  const Tokenizer tokenizer = this->tokenizer();
  for (const Json& expected : cases()) {
    const std::vector<int32_t> ids = expected["ids"];
    for (const bool skip : {false, true}) {
      StreamDecoder decoder(tokenizer, skip);
      std::string text;
      for (const int32_t id : ids) {
        const std::string piece = decoder.push(id);
        EXPECT_EQ(first_invalid_utf8(piece), -1);
        text += piece;
      }
      EXPECT_EQ(text + decoder.finish(), tokenizer.decode(ids, skip));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, Families,
                         ::testing::Values("deepseek_v3", "qwen2", "llama3", "gpt2", "gpt4o_nfd",
                                           "behaviors", "trained"));

TEST(TokenizerTest, EndOfTextComesFromTheConfigElseFromTheName) {
  EXPECT_EQ(
      Tokenizer::parse(tokenizer_golden("deepseek_v3.json"), "x").eos_id(),
      Tokenizer::parse(tokenizer_golden("deepseek_v3.json"), "x").id_of("<｜end▁of▁sentence｜>"));
  const Tokenizer named = Tokenizer::parse(tokenizer_golden("qwen2.json"), "x",
                                           R"({"eos_token": {"content": "<|im_start|>"}})");
  EXPECT_EQ(named.eos_id(), named.id_of("<|im_start|>"));
  EXPECT_TRUE(named.is_special(*named.eos_id()));
  EXPECT_FALSE(Tokenizer::parse(tokenizer_golden("behaviors.json"), "x").eos_id());
}

TEST(TokenizerTest, TextThatIsNotUtf8IsRefusedWithItsOffset) {
  const Tokenizer tokenizer = Tokenizer::parse(tokenizer_golden("qwen2.json"), "x");
  EXPECT_NE(error_of([&] { tokenizer.encode("abc\xFF"); }).find("byte 0xff at offset 3"),
            std::string::npos);
  EXPECT_NE(error_of([&] { tokenizer.encode("ab\xED\xA0\x80"); }).find("offset 2"),
            std::string::npos);
}

TEST(TokenizerTest, FilesOfAnotherKindAreRefusedByPart) {
  const Json good = Json::parse(tokenizer_golden("qwen2.json"));
  const auto complaint = [&](const std::function<void(Json&)>& change) {
    Json bad = good;
    change(bad);
    return error_of([&] { Tokenizer::parse(bad.dump(), "file.json"); });
  };
  EXPECT_EQ(complaint([](Json&) {}), "no DataError");
  const auto expect = [&](const std::function<void(Json&)>& change, const char* part) {
    const std::string message = complaint(change);
    EXPECT_TRUE(message.starts_with("file.json: ")) << message;
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect([](Json& j) { j["model"]["type"] = "Unigram"; }, "'Unigram'");
  expect([](Json& j) { j["model"]["type"] = "WordPiece"; }, "only BPE");
  expect([](Json& j) { j["normalizer"] = {{"type", "Lowercase"}}; }, "'Lowercase'");
  expect([](Json& j) { j["pre_tokenizer"] = {{"type", "Metaspace"}}; }, "'Metaspace'");
  expect([](Json& j) { j["pre_tokenizer"] = nullptr; }, "not byte-level");
  expect([](Json& j) { j["decoder"] = nullptr; }, "decoder is not byte-level");
  expect([](Json& j) { j["post_processor"] = {{"type", "BertProcessing"}}; }, "'BertProcessing'");
  expect([](Json& j) { j["model"]["merges"][0] = {"zzz", "q"}; }, "\"zzz\"");
  expect([](Json& j) { j["model"]["vocab"]["a"] = 100000; }, "none has id");
  expect([](Json& j) { j["model"]["vocab"]["a"] = j["model"]["vocab"]["b"]; }, "two tokens");
  expect([](Json& j) { j["model"]["dropout"] = 0.1; }, "dropout");
  expect([](Json& j) { j.erase("model"); }, "not a tokenizer.json");
  expect([](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a"; }, "(a");
  EXPECT_NE(
      error_of([] { Tokenizer::parse("{\"model\": ", "cut.json"); }).find("cut.json: is not JSON"),
      std::string::npos);
  EXPECT_NE(
      error_of([] { Tokenizer::load("/nonexistent/tokenizer.json"); }).find("cannot be opened"),
      std::string::npos);
}

TEST(PatternTest, OnigurumaBecomesPcre2) {
  EXPECT_EQ(pcre2_of_oniguruma(R"(\p{Han}\p{L}\P{^Greek})"), R"(\p{sc:Han}\p{L}\p{sc:Greek})");
  EXPECT_EQ(pcre2_of_oniguruma(R"(\h[\h_])"), R"([0-9A-Fa-f][0-9A-Fa-f_])");
  EXPECT_EQ(pcre2_of_oniguruma(R"([[:digit:][:^upper:]])"), R"([\p{Nd}\P{Uppercase}])");
  EXPECT_NE(error_of([] { pcre2_of_oniguruma("[[:alpha:]]"); }), "no DataError");
  EXPECT_NE(error_of([] { pcre2_of_oniguruma("[a[b]]"); }), "no DataError");
  EXPECT_NE(error_of([] { pcre2_of_oniguruma("[a&&b]"); }), "no DataError");
  EXPECT_NE(error_of([] { pcre2_of_oniguruma(R"(\R)"); }), "no DataError");
}

// \w and \b of Oniguruma: marks belong to words; raised digits do outside sets only.
TEST(PatternTest, WordsAreOnigurumas) {
  const auto first = [](const char* pattern, std::string_view text) {
    Matcher matcher;
    Match match;
    if (!Pattern::regex(pattern).find(matcher, text, 0, match)) return std::string("nothing");
    return std::string(text.substr(match.begin, match.end - match.begin));
  };
  EXPECT_EQ(first(R"(\w+)", "!e\u0301\u00b2_x-"), "e\u0301\u00b2_x");
  EXPECT_EQ(first(R"([\w]+)", "!e\u0301\u00b2_x-"), "e\u0301");
  EXPECT_EQ(first(R"(\W+)", "a\u00b2\u2460b"), "\u2460");
  EXPECT_EQ(first(R"(\b.\B.)", "-ae\u0301"), "ae");
  EXPECT_EQ(first(R"(e\b)", "e\u0301"), "nothing");
}

TEST(Utf8Test, WellFormedIsAsTheStandardSays) {
  const auto bad = [](std::string_view text) { return first_invalid_utf8(text); };
  EXPECT_EQ(bad("plain ascii, long enough for whole words"), -1);
  EXPECT_EQ(bad("\xC3\xA9\xE4\xBD\xA0\xF0\x9F\x98\x80"), -1);
  EXPECT_EQ(bad("12345678\xC0\x80"), 8);  // overlong
  EXPECT_EQ(bad("a\xE0\x80\x80"), 1);
  EXPECT_EQ(bad("a\xED\xBF\xBF"), 1);      // a surrogate
  EXPECT_EQ(bad("\xF4\x8F\xBF\xBF"), -1);  // U+10FFFF
  EXPECT_EQ(bad("\xF4\x90\x80\x80"), 0);   // above
  EXPECT_EQ(bad("ab\xE4\xBD"), 2);         // cut short
  EXPECT_EQ(incomplete_suffix("ab\xE4\xBD"), 2U);
  EXPECT_EQ(incomplete_suffix("ab\xF0\x9F\x98"), 3U);
  EXPECT_EQ(incomplete_suffix("ab\xE4\xBD\xA0"), 0U);
  EXPECT_EQ(incomplete_suffix("ab\xFF"), 0U);
  EXPECT_EQ(with_replacements("a\xE4\xBD"
                              "b\xFF"),
            "a\uFFFDb\uFFFD");
  std::string every, back;
  for (int byte = 0; byte < 256; ++byte) every.push_back(static_cast<char>(byte));
  EXPECT_TRUE(bytes_of_byte_level(byte_level_of_bytes(every), back));
  EXPECT_EQ(back, every);
}

}  // namespace
}  // namespace strait
