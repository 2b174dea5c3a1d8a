// `strait data inspect`: everything about a corpus, after reading all of it.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "data/corpus/corpus.h"
#include "data/tokenizer/tokenizer.h"
#include "launch/commands/data.h"
#include "launch/trainer/report.h"

namespace strait {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kBlockDocuments = int64_t{1} << 16, kBlockTokens = int64_t{1} << 20;
constexpr size_t kShownLines = 8, kShownBytes = 600, kShownInputs = 8;

// Reads every token (Corpus refuses ids outside the vocabulary); every document must end with EOS.
void verify(const Corpus& corpus) {
  std::vector<int64_t> ends;    // of the documents of a block
  std::vector<int32_t> tokens;  // [first_token, first_token + tokens.size())
  int64_t first_token = 0;
  for (int64_t first = 0; first < corpus.num_documents(); first += kBlockDocuments) {
    ends.resize(static_cast<size_t>(std::min(kBlockDocuments, corpus.num_documents() - first)));
    corpus.read_offsets(first + 1, ends);
    for (size_t index = 0; index < ends.size(); ++index) {
      while (first_token + static_cast<int64_t>(tokens.size()) < ends[index]) {
        first_token += static_cast<int64_t>(tokens.size());
        tokens.resize(
            static_cast<size_t>(std::min(kBlockTokens, corpus.num_tokens() - first_token)));
        corpus.read_tokens(first_token, tokens);
      }
      const int32_t last = tokens[static_cast<size_t>(ends[index] - 1 - first_token)];
      if (last != corpus.eos_id())
        throw DataError(fmt::format("{}: document {} of {} ends with token {}, not with EOS {}",
                                    corpus.path(), first + static_cast<int64_t>(index),
                                    name_of(corpus.split()), last, corpus.eos_id()));
    }
  }
}

// held_out.txt: the documents, each with at most one newline more.
void verify_held_out_text(const std::filesystem::path& folder, const Corpus& held_out) {
  const std::string path = (folder / "held_out.txt").string();
  std::error_code error;
  const auto size = static_cast<int64_t>(std::filesystem::file_size(path, error));
  if (error) throw DataError(fmt::format("{}: {}", path, error.message()));
  if (size < held_out.num_bytes() || size > held_out.num_bytes() + held_out.num_documents())
    throw DataError(fmt::format("{}: expected {} bytes and at most {} newlines more, got {}", path,
                                held_out.num_bytes(), held_out.num_documents(), size));
}

std::string beginning_of(const std::string& text) {
  size_t end = 0;
  for (size_t lines = 0; lines < kShownLines && end < text.size(); ++lines)
    end = std::min(text.find('\n', end), text.size() - 1) + 1;
  end = std::min(end, kShownBytes);
  while (end < text.size() && end > 0 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

std::string first_document(const Corpus& corpus, const Tokenizer& tokenizer) {
  if (corpus.num_documents() == 0) return {};
  std::vector<int32_t> ids = corpus.document(0);
  ids.pop_back();
  return beginning_of(tokenizer.decode(ids));
}

Json json_of(const Corpus& corpus) {
  return {{"documents", corpus.num_documents()},
          {"tokens", corpus.num_tokens()},
          {"bytes", corpus.num_bytes()}};
}

void print_text(const Corpus& train, const Corpus& held_out, const Json& inputs,
                const std::string& begin, const std::string& eos) {
  const CorpusInfo& info = train.info();
  fmt::print("corpus       {}, format {}\n", train.path(), kCorpusFormatVersion);
  fmt::print("vocabulary   {} tokens, EOS {} {}; tokenizer.json xxh3 {}\n", info.vocab_size,
             info.eos_id, eos, info.tokenizer_xxh3);
  fmt::print("source       {}\nlicence      {}\n", info.source.empty() ? "not given" : info.source,
             info.licence.empty() ? "not given" : info.licence);
  fmt::print("inputs       {}\n", inputs.size());
  for (size_t index = 0; index < std::min(inputs.size(), kShownInputs); ++index)
    fmt::print("  {}  {:>12} bytes  {}\n", inputs[index].value("xxh3", ""),
               inputs[index].value("bytes", int64_t{0}), inputs[index].value("path", ""));
  if (inputs.size() > kShownInputs) fmt::print("  and {} more\n", inputs.size() - kShownInputs);
  fmt::print("{:<9}{:>12}{:>15}{:>15}{:>13}\n", "", "documents", "tokens", "bytes", "bytes/token");
  for (const Corpus* split : {&train, &held_out})
    fmt::print("{:<9}{:>12}{:>15}{:>15}{:>13.3f}\n", name_of(split->split()),
               split->num_documents(), split->num_tokens(), split->num_bytes(),
               static_cast<double>(split->num_bytes()) /
                   static_cast<double>(std::max<int64_t>(1, split->num_tokens())));
  fmt::print(
      "verified     every offset, every id, the end of every document, held_out.txt's size\n");
  fmt::print("the first document begins:\n{}{}", begin, begin.ends_with('\n') ? "" : "\n");
}

}  // namespace

int run_data_inspect(const DataInspectOptions& options) {
  const Corpus train(options.corpus, Split::train), held_out(options.corpus, Split::held_out);
  const std::filesystem::path folder = std::filesystem::path(train.path()).parent_path();
  const Tokenizer tokenizer = Tokenizer::load((folder / "tokenizer.json").string());
  require_same_tokenizer(train, tokenizer.vocab_size(), tokenizer.xxh3());
  verify(train);
  verify(held_out);
  verify_held_out_text(folder, held_out);

  const CorpusInfo& info = train.info();
  const Json inputs = Json::parse(info.inputs_json, nullptr, false);
  if (!inputs.is_array()) throw DataError(train.path() + ": its list of inputs is not a JSON list");
  const std::string begin = first_document(train, tokenizer);
  const std::string& eos = tokenizer.token_of(info.eos_id);
  if (!options.json) {
    print_text(train, held_out, inputs, begin, eos);
    return 0;
  }
  const Json json = {{"corpus", train.path()},
                     {"format_version", kCorpusFormatVersion},
                     {"vocab_size", info.vocab_size},
                     {"eos_id", info.eos_id},
                     {"eos_token", eos},
                     {"tokenizer_xxh3", info.tokenizer_xxh3},
                     {"source", info.source},
                     {"licence", info.licence},
                     {"inputs", inputs},
                     {"train", json_of(train)},
                     {"held_out", json_of(held_out)},
                     {"first_document", begin},
                     {"verified", true}};
  fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
  return 0;
}

}  // namespace strait
