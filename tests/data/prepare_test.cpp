// From text files to a corpus folder: documents, errors with their places, the split, and a folder
// that is whole or not there.
#include "data/corpus/prepare.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <sstream>

#include "core/errors.h"
#include "data/corpus/corpus.h"
#include "data/corpus/document_reader.h"
#include "data/corpus/held_out_rule.h"
#include "data/corpus/input_files.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/trainer.h"
#include "data/tokenizer/utf8.h"
#include "tests/data/test_files.h"

namespace strait {
namespace {

using test::error_of;

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  std::ostringstream content;
  content << in.rdbuf();
  return content.str();
}

// Words, lines and paragraphs of several scripts.
std::string made_up_text(uint64_t seed, size_t num_bytes) {
  std::mt19937_64 random(seed);
  const std::vector<std::string> words = {
      "the",    "token ",     "expert", "caf\u00e9", "\u4f60\u597d", "\n\n", ".\n",
      "x = 1;", "\U0001f600", "42",     "\r\n\r\n",  " router",      "\t"};
  std::string text = fmt::format("text {} ", seed);
  while (text.size() < num_bytes)
    text += (random() % 4 == 0 ? "" : " ") + words[random() % words.size()];
  return text;
}

class PrepareTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              std::string("strait_prepare_")
                  .append(::testing::UnitTest::GetInstance()->current_test_info()->name())
                  .append(std::to_string(::getpid()));
    fs::create_directories(folder_ / "in");
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string write(const std::string& name, const std::string& content) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return path(name);
  }
  void write_texts(int count, size_t num_bytes) const {
    for (int index = 0; index < count; ++index)
      write(fmt::format("in/{:03}.txt", index),
            made_up_text(static_cast<uint64_t>(index), num_bytes));
  }
  PrepareSettings settings() const {
    return {.paths = {path("in")}, .out = path("out"), .vocab_size = 300, .held_out = 0.2};
  }
  std::vector<std::string> documents_of(const std::string& file, int64_t limit,
                                        int64_t* num_blank = nullptr) const {
    const InputFiles inputs = list_input_files({file});
    DocumentReader reader(inputs.files.at(0), limit);
    std::vector<std::string> documents;
    for (std::string_view document; reader.next(document);) documents.emplace_back(document);
    EXPECT_EQ(reader.file().num_bytes_read(), inputs.num_bytes);
    if (num_blank != nullptr) *num_blank = reader.num_blank();
    return documents;
  }
  std::set<std::string> names_in(const fs::path& folder) const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
    return names;
  }

  fs::path folder_;
};

// --- documents

TEST_F(PrepareTest, ACutFallsOnParagraphsThenLinesThenSpaces) {
  const std::string words(200, 'w');
  EXPECT_EQ(
      document_cut("a\n" + words.substr(0, 40) + "\n\n" + words.substr(0, 10) + "\n" + words, 64),
      44U);
  EXPECT_EQ(document_cut(words.substr(0, 40) + "\n\r\n" + words, 64), 43U);
  EXPECT_EQ(document_cut(words.substr(0, 40) + "\n" + words, 64), 41U);
  EXPECT_EQ(document_cut("\n\n" + words.substr(0, 40) + " " + words, 64),
            42U);  // the blank line is too early
  EXPECT_EQ(document_cut(words.substr(0, 64) + " " + words, 64), 64U);
  EXPECT_EQ(document_cut(words, 64), 64U);
  std::string chinese;
  while (chinese.size() < 100) chinese += "\u4f60";
  EXPECT_EQ(document_cut(chinese, 64), 63U);
}

TEST_F(PrepareTest, DocumentsJoinedAreTheText) {
  const std::string text = made_up_text(1, 700'000);  // several blocks
  write("a.txt", text);
  write("bom.md", "\xEF\xBB\xBF" + text);
  for (const int64_t limit : {64, 1000, 32'768, 262'144, 10'000'000})
    for (const char* name : {"a.txt", "bom.md"}) {
      std::string joined;
      for (const std::string& document : documents_of(path(name), limit)) {
        EXPECT_LE(static_cast<int64_t>(document.size()), limit);
        EXPECT_EQ(first_invalid_utf8(document), -1);
        joined += document;
      }
      EXPECT_TRUE(joined == text) << limit;
    }
}

TEST_F(PrepareTest, WhiteSpaceIsNoDocument) {
  int64_t num_blank = 0;
  EXPECT_TRUE(documents_of(write("a.txt", " \n\t\r\n"), 64, &num_blank).empty());
  EXPECT_EQ(num_blank, 1);
  EXPECT_TRUE(documents_of(write("bom.txt", "\xEF\xBB\xBF"), 64).empty());
  const std::string lines =
      write("a.jsonl", "\n{\"text\": \" \"}\n  \n{\"text\": \"x\"}\n{\"text\": \"\"}\n");
  EXPECT_EQ(documents_of(lines, 64, &num_blank), std::vector<std::string>{"x"});
  EXPECT_EQ(num_blank, 2);
}

TEST_F(PrepareTest, JsonLinesAreDocuments) {
  const std::string file =
      write("a.jsonl",
            "\xEF\xBB\xBF{\"text\": \"one\\n\\u4f60\\ud83d\\ude00\", \"id\": 7}\r\n"
            "\n"
            "{\"meta\": {\"text\": 1}, \"text\": \"two\"}");
  EXPECT_EQ(documents_of(file, 64), (std::vector<std::string>{"one\n\u4f60\U0001f600", "two"}));
  // Long lines, over several blocks, and long documents.
  const std::string tail = "caf\u00e9\n\n\u4f60\u597d \U0001f600";
  std::string lines;
  for (const size_t size : {600'000, 10, 100'000, 1})
    lines += nlohmann::json{{"text", std::string(size, 'a') + tail}}.dump() + "\n";
  std::string joined;
  for (const std::string& document : documents_of(write("long.jsonl", lines), 1000)) {
    EXPECT_LE(document.size(), 1000U);
    joined += document;
  }
  std::string expected;
  for (const size_t size : {600'000, 10, 100'000, 1}) expected += std::string(size, 'a') + tail;
  EXPECT_TRUE(joined == expected);
}

TEST_F(PrepareTest, ErrorsOfJsonLinesNameTheLine) {
  const auto complaint = [&](const std::string& content) {
    const std::string file = write("bad.jsonl", content);
    const std::string message = error_of([&] { documents_of(file, 1000); });
    EXPECT_TRUE(message.starts_with(file + ":")) << message;
    return message.substr(file.size());
  };
  EXPECT_TRUE(
      complaint("{\"text\": \"a\"}\n\n{\"text\": \"b\"\n").starts_with(":3: not JSON at byte 13"));
  EXPECT_TRUE(complaint("{\"text\": \"a\"}\r\n[1]\n").starts_with(":2: expected an object"));
  EXPECT_TRUE(complaint("{\"Text\": \"a\"}\n").starts_with(":1: has no field \"text\""));
  EXPECT_TRUE(complaint("{\"text\": 5}")
                  .starts_with(":1: expected a string in the field \"text\", got number"));
  EXPECT_TRUE(complaint("{\"text\": \"\\ud800\"}\n").starts_with(":1: not JSON"));
  EXPECT_TRUE(complaint("{\"text\": \"a\"} x\n").starts_with(":1: not JSON"));
  EXPECT_TRUE(complaint("{\"text\": \"a\"}\n{\"text\": \"\xFF\"}\n")
                  .starts_with(":2: not UTF-8: byte 0xff at offset 24"));
}

TEST_F(PrepareTest, ErrorsOfUtf8NameLineAndOffset) {
  const auto complaint = [&](const std::string& content) {
    const std::string file = write("bad.txt", content);
    const std::string message = error_of([&] { documents_of(file, 1000); });
    EXPECT_TRUE(message.starts_with(file)) << message;
    return message.substr(file.size());
  };
  EXPECT_EQ(complaint("ab\ncd\xC3("), ":2: not UTF-8: byte 0xc3 at offset 5");
  EXPECT_EQ(complaint("\xEF\xBB\xBF"
                      "a\n\nb\x80"),
            ":3: not UTF-8: byte 0x80 at offset 7");
  EXPECT_EQ(complaint("abc\xE4\xBD"), ":1: not UTF-8: byte 0xe4 at offset 3");  // cut short
  EXPECT_EQ(complaint(std::string("\xFF\xFE"
                                  "a\0",
                                  4)),
            ":1: not UTF-8: byte 0xff at offset 0; it looks like UTF-16");
  // Around the ends of blocks, after code points that lie across them.
  for (const size_t at : {size_t{262'143}, size_t{262'144}, size_t{262'145}, size_t{262'147},
                          size_t{524'288}, size_t{524'289}, size_t{600'000}})
    for (const char* bad : {"\xFF", "\xC0\x80", "\xF0\x9F\x98"}) {
      std::string content = "\n";
      while (content.size() + 3 <= at) content += "\u4f60";
      content.resize(at, 'x');
      content += std::string(bad) + "tail";
      EXPECT_EQ(complaint(content), fmt::format(":2: not UTF-8: byte 0x{:02x} at offset {}",
                                                static_cast<uint8_t>(bad[0]), at));
    }
}

// --- inputs

TEST_F(PrepareTest, InputsAreFoundInOrderAndOnce) {
  for (const char* name :
       {"in/b.txt", "in/a/z.md", "in/a/B.TXT", "in/c.pod", "in/c.py", "in/.hidden.txt",
        "in/.git/x.txt", "in/old/corpus.h5", "in/old/held_out.txt", "in/d.jsonl"})
    write(name, "x");
  write("in/empty.txt", "");
  fs::create_symlink(path("in/b.txt"), path("in/link.txt"));
  fs::create_directory_symlink(path("in"), path("in/loop"));
  const InputFiles found = list_input_files({path("in/c.pod"), path("in"), path("in/a/../b.txt")});
  std::vector<std::string> names;
  for (const InputFile& file : found.files) names.push_back(fs::relative(file.path, folder_));
  EXPECT_EQ(names, (std::vector<std::string>{"in/c.pod", "in/a/B.TXT", "in/a/z.md", "in/b.txt",
                                             "in/d.jsonl"}));
  EXPECT_EQ(found.num_bytes, 5);
  EXPECT_EQ(found.num_empty, 1);
  EXPECT_TRUE(found.files[4].json_lines);
  EXPECT_FALSE(found.files[0].json_lines);
}

TEST_F(PrepareTest, InputsThatDoNotServe) {
  const auto complaint = [](const std::string& input) {
    return error_of([&] { list_input_files({input}); });
  };
  EXPECT_NE(complaint(path("missing.txt")).find("No such file"), std::string::npos);
  EXPECT_EQ(complaint(write("empty.txt", "")), path("empty.txt") + ": is empty");
  EXPECT_NE(complaint(write("a.pdf", "x")).find("expected a file of kind .txt .md .pod .jsonl"),
            std::string::npos);
  EXPECT_NE(complaint(path("in")).find("holds no file of kind"), std::string::npos);
  ASSERT_EQ(::mkfifo(path("pipe.txt").c_str(), 0600), 0);
  EXPECT_NE(complaint(path("pipe.txt")).find("neither a file nor a folder"), std::string::npos);
}

TEST_F(PrepareTest, UnreadableInputs) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may read every file";
  fs::permissions(write("in/a.txt", "x"), fs::perms::none);
  EXPECT_NE(error_of([&] { list_input_files({path("in/a.txt")}); }).find("Permission denied"),
            std::string::npos);
  fs::create_directories(path("in/closed"));
  fs::permissions(path("in/closed"), fs::perms::none);
  EXPECT_NE(error_of([&] { list_input_files({path("in/closed")}); }).find("Permission denied"),
            std::string::npos);
  fs::permissions(path("in/closed"), fs::perms::owner_all);
}

// --- the split

TEST(HeldOutRuleTest, HoldsOutTheShareItIsAskedFor) {
  for (const double fraction : {0.001, 0.05, 0.3, 0.9}) {
    HeldOutRule rule(fraction);
    std::vector<std::string> documents;
    for (int index = 0; index < 5000; ++index)
      documents.push_back(std::string(static_cast<size_t>(index % 50 + 1), 'x') +
                          std::to_string(index));
    int64_t all = 0, held = 0;
    for (const std::string& document : documents) rule.see(document);
    ASSERT_TRUE(rule.decide());
    for (const std::string& document : documents) {
      all += static_cast<int64_t>(document.size());
      if (rule.holds_out(document)) held += static_cast<int64_t>(document.size());
    }
    EXPECT_NEAR(static_cast<double>(held) / static_cast<double>(all), fraction, 0.001);
  }
}

TEST(HeldOutRuleTest, BothSidesHaveADocument) {
  for (const double fraction : {1e-12, 0.5, 1 - 1e-12})
    for (int first = 0; first < 20; ++first) {
      HeldOutRule rule(fraction);
      int held = 0;
      for (int index = 0; index < 3; ++index) rule.see(std::to_string(first + index));
      ASSERT_TRUE(rule.decide());
      for (int index = 0; index < 3; ++index) held += rule.holds_out(std::to_string(first + index));
      EXPECT_TRUE(held == 1 || held == 2) << held;
      if (fraction != 0.5) {
        EXPECT_EQ(held, fraction < 0.5 ? 1 : 2);
      }
    }
  HeldOutRule none(0.5), one(0.5);
  EXPECT_FALSE(none.decide());
  one.see("same");
  one.see("same");
  EXPECT_FALSE(one.decide());
}

// --- the whole

TEST_F(PrepareTest, TheCorpusHoldsTheText) {
  write_texts(40, 3000);
  write("in/lines.jsonl", "{\"text\": \"a short one\"}\n{\"text\": \"and another\\n\"}\n");
  PrepareSettings wanted = settings();
  wanted.max_document_bytes = 1000;
  wanted.source = "made up";
  wanted.licence = "none";
  const PrepareResult result = prepare_corpus(wanted);
  EXPECT_EQ(names_in(path("out")),
            (std::set<std::string>{"corpus.h5", "held_out.txt", "tokenizer.json",
                                   "tokenizer_config.json"}));

  std::set<std::string> expected;  // every document; they differ
  for (const InputFile& input : list_input_files({path("in")}).files)
    for (const std::string& document : documents_of(input.path, 1000)) expected.insert(document);
  const Tokenizer tokenizer = Tokenizer::load(path("out/tokenizer.json"));
  EXPECT_EQ(tokenizer.vocab_size(), 300);
  std::string held_out_text;
  int64_t num_bytes = 0;
  for (const Split split : {Split::train, Split::held_out}) {
    const Corpus corpus(path("out"), split);
    require_same_tokenizer(corpus, tokenizer.vocab_size(), tokenizer.xxh3());
    EXPECT_EQ(corpus.eos_id(), tokenizer.eos_id());
    const PreparedSplit& said = split == Split::train ? result.train : result.held_out;
    EXPECT_EQ(said.num_documents, corpus.num_documents());
    EXPECT_EQ(said.num_tokens, corpus.num_tokens());
    EXPECT_EQ(said.num_bytes, corpus.num_bytes());
    num_bytes += corpus.num_bytes();
    for (int64_t index = 0; index < corpus.num_documents(); ++index) {
      std::vector<int32_t> ids = corpus.document(index);
      ASSERT_EQ(ids.back(), corpus.eos_id());
      ids.pop_back();
      const std::string document = tokenizer.decode(ids);
      EXPECT_EQ(tokenizer.encode(document), ids);
      EXPECT_EQ(expected.erase(document), 1U);
      if (split == Split::held_out)
        held_out_text += document + (document.ends_with('\n') ? "" : "\n");
    }
  }
  EXPECT_TRUE(expected.empty());
  EXPECT_TRUE(read(path("out/held_out.txt")) == held_out_text);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(held_out_text)), held_out_text);
  EXPECT_NEAR(static_cast<double>(result.held_out.num_bytes) / static_cast<double>(num_bytes), 0.2,
              0.02);
}

TEST_F(PrepareTest, TheCorpusSaysWhereItComesFrom) {
  write_texts(3, 500);
  write("in/more.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n");
  PrepareSettings wanted = settings();
  wanted.source = "made up \u4f60";
  wanted.licence = "MIT";
  prepare_corpus(wanted);
  const CorpusInfo info = Corpus(path("out")).info();
  EXPECT_EQ(info.source, wanted.source);
  EXPECT_EQ(info.licence, "MIT");
  const nlohmann::json inputs = nlohmann::json::parse(info.inputs_json);
  ASSERT_EQ(inputs.size(), 4U);
  EXPECT_EQ(inputs[3]["path"], path("in/more.jsonl"));
  EXPECT_EQ(inputs[3]["documents"], 2);
  for (const nlohmann::json& input : inputs) {
    EXPECT_EQ(input["bytes"], fs::file_size(input["path"].get<std::string>()));
    EXPECT_EQ(input["xxh3"], xxh3_of(read(input["path"].get<std::string>())));
  }
}

TEST_F(PrepareTest, TheTokenizerLearnsFromTheTrainingSideOnly) {
  write_texts(12, 2000);
  prepare_corpus(settings());
  const Corpus train(path("out"));
  const Tokenizer tokenizer = Tokenizer::load(path("out/tokenizer.json"));
  TokenizerTrainer trainer({.vocab_size = 300});
  for (int64_t index = 0; index < train.num_documents(); ++index) {
    std::vector<int32_t> ids = train.document(index);
    ids.pop_back();
    trainer.add(tokenizer.decode(ids));
  }
  EXPECT_EQ(trainer.train(), tokenizer.json());
}

TEST_F(PrepareTest, ThreadsDoNotChangeTheCorpus) {
  write_texts(30, 4000);
  std::vector<std::vector<int32_t>> streams;
  for (const int threads : {1, 2, 5}) {
    PrepareSettings wanted = settings();
    wanted.num_threads = threads;
    wanted.replace = true;
    prepare_corpus(wanted);
    const Corpus corpus(path("out"));
    streams.emplace_back(static_cast<size_t>(corpus.num_tokens()));
    corpus.read_tokens(0, streams.back());
  }
  EXPECT_EQ(streams[0], streams[1]);
  EXPECT_EQ(streams[0], streams[2]);
}

TEST_F(PrepareTest, AGivenTokenizerIsCopiedWithItsConfig) {
  write_texts(5, 500);
  TokenizerTrainer trainer({.vocab_size = 270});
  trainer.add(made_up_text(9, 5000));
  const std::string json = trainer.train();
  PrepareSettings wanted = settings();
  wanted.tokenizer = write("tok/tokenizer.json", json);
  const std::string config = std::string("{\"eos_token\": \"") + kPadding + "\"}";
  write("tok/tokenizer_config.json", config);
  prepare_corpus(wanted);
  EXPECT_EQ(read(path("out/tokenizer.json")), json);
  EXPECT_EQ(read(path("out/tokenizer_config.json")), config);
  EXPECT_EQ(Corpus(path("out")).eos_id(), 2);

  wanted.replace = true;
  std::string nameless = json;
  for (const std::string name : {kEndOfSentence, kBeginOfSentence})
    for (size_t at; (at = nameless.find(name)) != std::string::npos;)
      nameless.replace(at, name.size(), "<x" + std::to_string(name.size()) + ">");
  wanted.tokenizer = write("bare/tokenizer.json", nameless);
  EXPECT_NE(error_of([&] { prepare_corpus(wanted); }).find("no end-of-text token"),
            std::string::npos);
  wanted.tokenizer = path("missing.json");
  EXPECT_NE(error_of([&] { prepare_corpus(wanted); }).find("missing.json: cannot be opened"),
            std::string::npos);
  EXPECT_EQ(read(path("out/tokenizer.json")), json);
}

TEST_F(PrepareTest, AnInterruptedPrepareLeavesEverythingAsItWas) {
  write_texts(10, 2000);
  struct Stop {};
  for (const bool old_corpus : {false, true}) {
    if (old_corpus) prepare_corpus(settings());
    const std::set<std::string> before = names_in(folder_);
    const std::string old_tokenizer = old_corpus ? read(path("out/tokenizer.json")) : "";
    PrepareSettings wanted = settings();
    wanted.replace = true;
    wanted.vocab_size = 280;
    std::set<PreparePhase> stopped;
    for (const PreparePhase phase : {PreparePhase::read, PreparePhase::count_words,
                                     PreparePhase::learn_merges, PreparePhase::encode}) {
      EXPECT_THROW(
          prepare_corpus(wanted,
                         [&](const PrepareProgress& progress) {
                           EXPECT_LE(progress.done, progress.total);
                           if (progress.phase != phase || 2 * progress.done < progress.total)
                             return;
                           stopped.insert(phase);
                           throw Stop{};
                         }),
          Stop);
      EXPECT_EQ(names_in(folder_), before);
    }
    EXPECT_EQ(stopped.size(), 4U);
    if (old_corpus) {
      EXPECT_EQ(read(path("out/tokenizer.json")), old_tokenizer);
    }
  }
}

TEST_F(PrepareTest, OnlyACorpusIsReplacedAndOnlyWhenAsked) {
  write_texts(10, 2000);
  PrepareSettings wanted = settings();
  fs::create_directory(path("out"));  // an empty folder may be there
  wanted.out = path("out") + "/";
  prepare_corpus(wanted);
  EXPECT_NE(error_of([&] { prepare_corpus(wanted); }).find("holds a corpus already"),
            std::string::npos);
  wanted.replace = true;
  wanted.vocab_size = 280;
  prepare_corpus(wanted);
  EXPECT_EQ(Corpus(path("out")).vocab_size(), 280);
  EXPECT_EQ(names_in(folder_), (std::set<std::string>{"in", "out"}));
  wanted.out = path("in");
  EXPECT_NE(error_of([&] { prepare_corpus(wanted); }).find("other things in it"),
            std::string::npos);
  wanted.out = path("in/000.txt");
  EXPECT_NE(error_of([&] { prepare_corpus(wanted); }).find("not a folder"), std::string::npos);
  wanted.out = path("new/deep/out");
  prepare_corpus(wanted);
  EXPECT_EQ(Corpus(wanted.out).vocab_size(), 280);
}

TEST_F(PrepareTest, AnInputThatChangesMeanwhileIsNoticed) {
  write_texts(10, 2000);
  bool changed = false;
  const std::string message = error_of([&] {
    prepare_corpus(settings(), [&](const PrepareProgress& progress) {
      if (progress.phase != PreparePhase::learn_merges || changed) return;
      std::ofstream(path("in/004.txt"), std::ios::app) << "more";
      changed = true;
    });
  });
  EXPECT_EQ(message, path("in/004.txt") + ": has changed while it was being read");
  EXPECT_FALSE(fs::exists(path("out")));
}

TEST_F(PrepareTest, TextAndSettingsThatDoNotServe) {
  PrepareSettings wanted = settings();
  write("in/a.txt", "one document");
  write("in/b.txt", "one document");
  EXPECT_NE(error_of([&] { prepare_corpus(wanted); }).find("two different documents"),
            std::string::npos);
  write("in/b.txt", " \n ");
  EXPECT_NE(error_of([&] { prepare_corpus(wanted); }).find("two different documents"),
            std::string::npos);
  write("in/b.txt", "another");
  wanted.vocab_size = 5000;
  EXPECT_NE(error_of([&] { prepare_corpus(wanted); }).find("at most, 5000 was asked for"),
            std::string::npos);
  write("in/c.txt", "bad \xFF");
  EXPECT_NE(error_of([&] { prepare_corpus(wanted); }).find("c.txt:1: not UTF-8"),
            std::string::npos);
  EXPECT_EQ(names_in(folder_), std::set<std::string>{"in"});
  for (const double fraction : {0.0, 1.0, -1.0, std::nan("")}) {
    wanted.held_out = fraction;
    EXPECT_THROW(prepare_corpus(wanted), RecipeError);
  }
  wanted = settings();
  wanted.vocab_size = 10;
  EXPECT_THROW(prepare_corpus(wanted), RecipeError);
  wanted = settings();
  wanted.paths = {};
  EXPECT_THROW(prepare_corpus(wanted), RecipeError);
  wanted = settings();
  wanted.max_document_bytes = 10;
  EXPECT_THROW(prepare_corpus(wanted), RecipeError);
}

TEST_F(PrepareTest, ThousandsOfInputs) {
  for (int index = 0; index < 3000; ++index)
    write(fmt::format("in/{:05}.txt", index), fmt::format("text number {}", index));
  PrepareSettings wanted = settings();
  wanted.vocab_size = 270;
  prepare_corpus(wanted);
  const CorpusInfo info = Corpus(path("out")).info();
  EXPECT_GT(info.inputs_json.size(), 200'000U);
  EXPECT_EQ(nlohmann::json::parse(info.inputs_json).size(), 3000U);
}

}  // namespace
}  // namespace strait
