#include "data/corpus/prepare.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>

#include "core/errors.h"
#include "core/thread_pool.h"
#include "data/corpus/corpus_writer.h"
#include "data/corpus/document_reader.h"
#include "data/corpus/folder_builder.h"
#include "data/corpus/held_out_rule.h"
#include "data/corpus/input_files.h"
#include "data/corpus/json_lines.h"
#include "data/hdf5/durable.h"
#include "data/hdf5/read_file.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/trainer.h"

namespace strait {
namespace {

using Progress = std::function<void(const PrepareProgress&)>;

void check(const PrepareSettings& settings) {
  if (settings.paths.empty()) throw RecipeError("no text: name at least one file or folder");
  if (settings.out.empty()) throw RecipeError("no folder named for the corpus");
  if (!(settings.held_out > 0 && settings.held_out < 1))
    throw RecipeError(fmt::format("held-out fraction {}: expected a number above 0 and below 1",
                                  settings.held_out));
  if (settings.max_document_bytes < kMinDocumentLimit)
    throw RecipeError(fmt::format("documents of at most {} bytes: expected {} or more",
                                  settings.max_document_bytes, kMinDocumentLimit));
  STRAIT_CHECK(settings.num_threads >= 1, std::to_string(settings.num_threads));
}

// The text of all inputs, to be walked through several times.
class Documents {
 public:
  Documents(const PrepareSettings& settings, const Progress& progress)
      : inputs_(list_input_files(settings.paths)),
        limit_(settings.max_document_bytes),
        progress_(progress) {}

  // Calls use(document) for every document of every input in order. The first walk notes what the
  // inputs are; later ones throw when an input has changed since.
  template <class Use>
  void for_each(PreparePhase phase, const Use& use) {
    const bool first = records_.empty();
    num_blank_ = 0;
    int64_t before = 0;
    for (size_t index = 0; index < inputs_.files.size(); ++index) {
      DocumentReader reader(inputs_.files[index], limit_);
      InputRecord record{.path = reader.file().path(), .xxh3 = {}};
      for (std::string_view document; reader.next(document); ++record.num_documents) {
        use(document);
        tell(phase, before + reader.file().num_bytes_read());
      }
      record.num_bytes = reader.file().num_bytes_read();
      record.xxh3 = reader.file().xxh3();
      num_blank_ += reader.num_blank();
      before += record.num_bytes;
      if (first)
        records_.push_back(std::move(record));
      else if (record.xxh3 != records_[index].xxh3)
        throw DataError(record.path + ": has changed while it was being read");
    }
    tell(phase, inputs_.num_bytes);
  }

  const InputFiles& inputs() const { return inputs_; }
  const std::vector<InputRecord>& records() const { return records_; }
  int64_t num_blank() const { return num_blank_; }

 private:
  void tell(PreparePhase phase, int64_t done) const {
    if (progress_) progress_({phase, std::min(done, inputs_.num_bytes), inputs_.num_bytes});
  }

  InputFiles inputs_;
  int64_t limit_;
  const Progress& progress_;
  std::vector<InputRecord> records_;
  int64_t num_blank_ = 0;
};

// held_out.txt.
class HeldOutText {
 public:
  explicit HeldOutText(std::string path) : path_(std::move(path)), out_(path_, std::ios::binary) {
    check();
  }
  void add(std::string_view document) {
    out_ << document;
    if (!document.ends_with('\n')) out_ << '\n';
    check();
  }
  void finish() {
    out_.close();
    check();
    sync_file(path_);
  }

 private:
  void check() const {
    if (!out_)
      throw DataError(
          fmt::format("{}: cannot be written ({} bytes free)", path_, free_disk_bytes(path_)));
  }
  std::string path_;
  std::ofstream out_;
};

// Encodes documents on several threads and writes them in order.
class EncodedOutput {
 public:
  EncodedOutput(const Tokenizer& tokenizer, int num_threads, CorpusWriter& corpus,
                HeldOutText& held_out)
      : pool_(num_threads), corpus_(corpus), held_out_(held_out) {
    for (int thread = 0; thread < num_threads; ++thread) encoders_.emplace_back(tokenizer);
  }

  void add(Split split, std::string_view document) {
    batch_.push_back({split, std::string(document), {}});
    batch_bytes_ += document.size();
    if (batch_bytes_ >= kBatchBytes) flush();
  }

  void flush() {
    const auto num_slices = static_cast<int64_t>(encoders_.size());
    pool_.parallel_for(num_slices, 1, [&](int64_t begin, int64_t end) {
      for (int64_t slice = begin; slice < end; ++slice)
        for (auto at = static_cast<size_t>(slice); at < batch_.size(); at += encoders_.size())
          encoders_[static_cast<size_t>(slice)].encode(batch_[at].text, batch_[at].ids);
    });
    for (const Document& document : batch_) {
      corpus_.add(document.split, document.ids, static_cast<int64_t>(document.text.size()));
      if (document.split == Split::held_out) held_out_.add(document.text);
    }
    batch_.clear();
    batch_bytes_ = 0;
  }

 private:
  static constexpr size_t kBatchBytes = size_t{4} << 20;
  struct Document {
    Split split;
    std::string text;
    std::vector<int32_t> ids;
  };
  ThreadPool pool_;
  std::vector<Encoder> encoders_;  // one a slice
  CorpusWriter& corpus_;
  HeldOutText& held_out_;
  std::vector<Document> batch_;
  size_t batch_bytes_ = 0;
};

// A tokenizer and the tokenizer_config.json that goes with it (empty: none).
struct ConfiguredTokenizer {
  Tokenizer tokenizer;
  std::string config_json;
};

ConfiguredTokenizer given_tokenizer(const std::string& path) {
  const std::filesystem::path config =
      std::filesystem::path(path).parent_path() / "tokenizer_config.json";
  ConfiguredTokenizer given{Tokenizer::load(path), std::filesystem::exists(config)
                                                       ? read_file(config.string())
                                                       : std::string()};
  if (!given.tokenizer.eos_id())
    throw DataError(path +
                    ": has no end-of-text token; name it as \"eos_token\" in a "
                    "tokenizer_config.json beside it");
  return given;
}

ConfiguredTokenizer trained_tokenizer(TokenizerTrainer& trainer, const HeldOutRule& rule,
                                      Documents& documents, const Progress& progress) {
  documents.for_each(PreparePhase::count_words, [&](std::string_view document) {
    if (!rule.holds_out(document)) trainer.add(document);
  });
  const std::string json = trainer.train([&](int64_t done, int64_t total) {
    if (progress) progress({PreparePhase::learn_merges, done, total});
  });
  const std::string config = trained_tokenizer_config_json();
  return {Tokenizer::parse(json, "the trained tokenizer", config), config};
}

PreparedSplit totals_of(const CorpusWriter& corpus, Split split) {
  return {corpus.num_documents(split), corpus.num_tokens(split), corpus.num_bytes(split)};
}

void write_corpus(const PrepareSettings& settings, const FolderBuilder& folder,
                  const Tokenizer& tokenizer, const HeldOutRule& rule, Documents& documents,
                  PrepareResult& result) {
  const int64_t token_bytes = tokenizer.vocab_size() <= 65536 ? 2 : 4;
  CorpusWriter corpus(folder.file("corpus.h5"),
                      {.vocab_size = tokenizer.vocab_size(),
                       .eos_id = *tokenizer.eos_id(),
                       .tokenizer_xxh3 = tokenizer.xxh3(),
                       .source = settings.source,
                       .licence = settings.licence,
                       .inputs_json = json_of(documents.records())},
                      documents.inputs().num_bytes / 4 * token_bytes);
  HeldOutText held_out(folder.file("held_out.txt"));
  EncodedOutput output(tokenizer, settings.num_threads, corpus, held_out);
  documents.for_each(PreparePhase::encode, [&](std::string_view document) {
    output.add(rule.holds_out(document) ? Split::held_out : Split::train, document);
  });
  output.flush();
  held_out.finish();
  corpus.finish();
  result.train = totals_of(corpus, Split::train);
  result.held_out = totals_of(corpus, Split::held_out);
}

}  // namespace

const char* name_of(PreparePhase phase) {
  switch (phase) {
    case PreparePhase::read:
      return "reading";
    case PreparePhase::count_words:
      return "counting words";
    case PreparePhase::learn_merges:
      return "learning tokens";
    case PreparePhase::encode:
      return "encoding";
  }
  return "";
}

PrepareResult prepare_corpus(const PrepareSettings& settings, const Progress& progress) {
  check(settings);
  std::optional<TokenizerTrainer> trainer;
  std::optional<ConfiguredTokenizer> chosen;
  if (settings.tokenizer.empty())
    trainer.emplace(TokenizerTrainerSettings{.vocab_size = settings.vocab_size});
  else
    chosen = given_tokenizer(settings.tokenizer);
  Documents documents(settings, progress);
  FolderBuilder folder(settings.out, settings.replace);

  HeldOutRule rule(settings.held_out);
  documents.for_each(PreparePhase::read, [&](std::string_view document) { rule.see(document); });
  if (!rule.decide())
    throw DataError(
        fmt::format("{}: expected two different documents at least, one to train on and one held "
                    "out; give more text or a smaller limit of bytes a document",
                    fmt::join(settings.paths, " ")));
  if (trainer) chosen = trained_tokenizer(*trainer, rule, documents, progress);
  trainer.reset();

  const Tokenizer& tokenizer = chosen->tokenizer;
  PrepareResult result{.num_files = static_cast<int64_t>(documents.inputs().files.size()),
                       .num_input_bytes = documents.inputs().num_bytes,
                       .num_empty_files = documents.inputs().num_empty,
                       .num_blank_documents = documents.num_blank(),
                       .vocab_size = tokenizer.vocab_size(),
                       .tokenizer_xxh3 = tokenizer.xxh3(),
                       .train = {},
                       .held_out = {}};
  write_file_durably(folder.file("tokenizer.json"), tokenizer.json());
  if (!chosen->config_json.empty())
    write_file_durably(folder.file("tokenizer_config.json"), chosen->config_json);
  write_corpus(settings, folder, tokenizer, rule, documents, result);
  folder.publish();
  return result;
}

}  // namespace strait
