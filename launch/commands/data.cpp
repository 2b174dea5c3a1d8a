#include "launch/commands/data.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "core/thread_pool.h"
#include "data/corpus/prepare.h"
#include "data/hdf5/read_file.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/utf8.h"
#include "launch/commands/data_progress.h"
#include "launch/trainer/report.h"

namespace strait {
namespace {

using Json = nlohmann::ordered_json;

// A path to tokenizer.json, of a path to it or to its folder.
std::string tokenizer_file(const std::string& path) {
  if (path.empty() || !std::filesystem::is_directory(path)) return path;
  return (std::filesystem::path(path) / "tokenizer.json").string();
}

// --- prepare

// While it lives SIGINT and SIGTERM wait to be asked for, in this thread and those it starts.
class Interrupts {
 public:
  Interrupts() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  }
  ~Interrupts() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  int arrived() const {  // its number, or 0
    const timespec no_time{};
    return std::max(0, sigtimedwait(&signals_, nullptr, &no_time));
  }

 private:
  sigset_t signals_, before_;
};

struct Interrupted {
  int signal;
};

double bytes_per_token(const PreparedSplit& split) {
  return split.num_tokens == 0
             ? 0
             : static_cast<double>(split.num_bytes) / static_cast<double>(split.num_tokens);
}

std::string table_of(const DataPrepareOptions& options, const PrepareResult& result) {
  std::string text =
      fmt::format("{}: {} of text in {} file{}, vocabulary {} ({})\n", options.out,
                  bytes_text(static_cast<double>(result.num_input_bytes)), result.num_files,
                  result.num_files == 1 ? "" : "s", result.vocab_size,
                  options.tokenizer.empty() ? "trained" : options.tokenizer);
  if (result.num_empty_files > 0)
    text += fmt::format("left out: {} empty files\n", result.num_empty_files);
  if (result.num_blank_documents > 0)
    text += fmt::format("left out: {} documents of white space\n", result.num_blank_documents);
  text += fmt::format("{:<9}{:>12}{:>15}{:>15}{:>13}\n", "", "documents", "tokens", "bytes",
                      "bytes/token");
  for (const auto& [name, split] :
       {std::pair{"train", result.train}, std::pair{"held_out", result.held_out}})
    text += fmt::format("{:<9}{:>12}{:>15}{:>15}{:>13.3f}\n", name, split.num_documents,
                        split.num_tokens, split.num_bytes, bytes_per_token(split));
  return text;
}

Json json_of(const PreparedSplit& split) {
  return {{"documents", split.num_documents},
          {"tokens", split.num_tokens},
          {"bytes", split.num_bytes},
          {"bytes_per_token", bytes_per_token(split)}};
}

std::string json_of(const DataPrepareOptions& options, const PrepareResult& result,
                    double seconds) {
  const Json json = {{"corpus", options.out},
                     {"files", result.num_files},
                     {"input_bytes", result.num_input_bytes},
                     {"empty_files", result.num_empty_files},
                     {"blank_documents", result.num_blank_documents},
                     {"vocab_size", result.vocab_size},
                     {"tokenizer_xxh3", result.tokenizer_xxh3},
                     {"train", json_of(result.train)},
                     {"held_out", json_of(result.held_out)},
                     {"seconds", seconds}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

PrepareResult prepare_with_display(const DataPrepareOptions& options,
                                   const Interrupts& interrupts) {
  ProgressDisplay display;
  return prepare_corpus({.paths = options.paths,
                         .out = options.out,
                         .tokenizer = tokenizer_file(options.tokenizer),
                         .vocab_size = options.vocab,
                         .held_out = options.held_out,
                         .max_document_bytes = options.max_document_bytes,
                         .source = options.source,
                         .licence = options.licence,
                         .replace = options.replace,
                         .num_threads = default_num_threads(1)},
                        [&](const PrepareProgress& progress) {
                          if (const int signal = interrupts.arrived()) throw Interrupted{signal};
                          display.show(name_of(progress.phase), progress.done, progress.total,
                                       progress.phase != PreparePhase::learn_merges);
                        });
}

// --- encode

std::string read_standard_input() {
  std::string text;
  std::string block(size_t{1} << 18, '\0');
  errno = 0;
  for (size_t size; (size = std::fread(block.data(), 1, block.size(), stdin)) > 0;)
    text.append(block, 0, size);
  if (std::ferror(stdin) != 0)
    throw DataError(fmt::format("standard input: cannot be read: {}", std::strerror(errno)));
  return text;
}

}  // namespace

int run_data_prepare(const DataPrepareOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const Interrupts interrupts;
  try {
    const PrepareResult result = prepare_with_display(options, interrupts);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    fmt::print("{}",
               options.json ? json_of(options, result, took.count()) : table_of(options, result));
    return 0;
  } catch (const Interrupted& interrupted) {
    return 128 + interrupted.signal;
  }
}

int run_data_encode(const DataEncodeOptions& options) {
  const Tokenizer tokenizer = Tokenizer::load(tokenizer_file(options.tokenizer));
  const std::string text = options.file == "-" ? read_standard_input() : read_file(options.file);
  require_utf8(text, options.file == "-" ? "standard input" : options.file);
  const std::vector<int32_t> ids = tokenizer.encode(text, options.add_special_tokens);
  fmt::print("{}{}{}\n", options.json ? "[" : "", fmt::join(ids, options.json ? "," : " "),
             options.json ? "]" : "");
  return 0;
}

}  // namespace strait
