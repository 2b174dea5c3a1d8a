#include "data/corpus/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "core/errors.h"

namespace strait {
namespace {

constexpr int64_t kBlockRows = int64_t{1} << 20;

hdf5::File open_checked(const std::string& folder_or_file) {
  const std::string path = corpus_file(folder_or_file);
  if (!std::filesystem::exists(path))
    throw DataError(path + ": is not there; `strait data prepare` makes a corpus");
  hdf5::File file = hdf5::File::open(path);
  if (!file.has_attribute("/", "format_version") || !file.has("/train"))
    throw DataError(path + ": is HDF5, but not a corpus of `strait data prepare`");
  const int64_t version = file.int_attribute("/", "format_version");
  if (version != kCorpusFormatVersion)
    throw DataError(fmt::format("{}: corpus format {}, this program reads format {}", path, version,
                                kCorpusFormatVersion));
  return file;
}

CorpusInfo info_of(const hdf5::File& file) {
  CorpusInfo info;
  info.vocab_size = file.int_attribute("/", "vocab_size");
  const int64_t eos = file.int_attribute("/", "eos_id");
  if (info.vocab_size < 1 || eos < 0 || eos >= info.vocab_size)
    throw DataError(
        fmt::format("{}: vocabulary of {} with EOS id {}", file.path(), info.vocab_size, eos));
  info.eos_id = static_cast<int32_t>(eos);
  info.tokenizer_xxh3 = file.string_attribute("/", "tokenizer_xxh3");
  info.source = file.string_attribute("/", "source");
  info.licence = file.string_attribute("/", "licence");
  info.inputs_json = file.string_attribute("/", "inputs");
  return info;
}

template <class Stored>
void read_as(const hdf5::Dataset& dataset, int64_t first, std::span<int32_t> tokens, int64_t limit,
             const std::string& path) {
  std::vector<Stored> block(std::min<size_t>(tokens.size(), kBlockRows));
  for (size_t done = 0; done < tokens.size(); done += block.size()) {
    const size_t count = std::min(block.size(), tokens.size() - done);
    const int64_t at = first + static_cast<int64_t>(done);
    dataset.read(at, static_cast<int64_t>(count), block.data());
    for (size_t index = 0; index < count; ++index) {
      if (static_cast<int64_t>(block[index]) >= limit)
        throw DataError(fmt::format("{}: token {} of {} is {}, the vocabulary has {}", path,
                                    at + static_cast<int64_t>(index), dataset.name(), block[index],
                                    limit));
      tokens[done + index] = static_cast<int32_t>(block[index]);
    }
  }
}

}  // namespace

const char* name_of(Split split) { return split == Split::train ? "train" : "held_out"; }

std::string corpus_file(const std::string& folder_or_file) {
  if (std::filesystem::is_directory(folder_or_file))
    return (std::filesystem::path(folder_or_file) / "corpus.h5").string();
  return folder_or_file;
}

Corpus::Corpus(const std::string& folder_or_file, Split split)
    : file_(open_checked(folder_or_file)),
      split_(split),
      info_(info_of(file_)),
      tokens_(file_.open_dataset(fmt::format("/{}/tokens", name_of(split)))),
      documents_(file_.open_dataset(fmt::format("/{}/documents", name_of(split)))),
      num_bytes_(file_.int_attribute(fmt::format("/{}", name_of(split)), "bytes")) {
  const hdf5::Type wanted = info_.vocab_size <= 65536 ? hdf5::Type::u16 : hdf5::Type::u32;
  if (tokens_.type() != wanted || tokens_.shape().size() != 1)
    throw DataError(
        fmt::format("{}: {} is not a list of {}", path(), tokens_.name(), name_of(wanted)));
  if (documents_.type() != hdf5::Type::i64 || documents_.shape().size() != 1 ||
      documents_.num_rows() < 1)
    throw DataError(fmt::format("{}: {} is not a list of i64", path(), documents_.name()));
  int64_t previous = 0;
  std::vector<int64_t> block;
  for (int64_t first = 0; first < documents_.num_rows(); first += kBlockRows) {
    block.resize(static_cast<size_t>(std::min(kBlockRows, documents_.num_rows() - first)));
    read_offsets(first, block);
    for (size_t index = 0; index < block.size(); ++index) {
      const bool start = first + static_cast<int64_t>(index) == 0;
      // A document has at least its EOS.
      if (start ? block[index] != 0 : block[index] <= previous)
        throw DataError(fmt::format("{}: offset {} of {} is {}, after {}", path(),
                                    first + static_cast<int64_t>(index), documents_.name(),
                                    block[index], previous));
      previous = block[index];
    }
  }
  if (previous != num_tokens())
    throw DataError(fmt::format("{}: {} has {} tokens, the documents need {}", path(),
                                tokens_.name(), num_tokens(), previous));
}

void Corpus::read_tokens(int64_t first, std::span<int32_t> tokens) const {
  if (tokens_.type() == hdf5::Type::u16)
    read_as<uint16_t>(tokens_, first, tokens, info_.vocab_size, path());
  else
    read_as<uint32_t>(tokens_, first, tokens, info_.vocab_size, path());
}

void Corpus::read_offsets(int64_t first, std::span<int64_t> offsets) const {
  documents_.read(first, static_cast<int64_t>(offsets.size()), offsets.data());
}

std::vector<int32_t> Corpus::document(int64_t index) const {
  int64_t ends[2];
  read_offsets(index, ends);
  std::vector<int32_t> tokens(static_cast<size_t>(ends[1] - ends[0]));
  read_tokens(ends[0], tokens);
  return tokens;
}

void require_same_tokenizer(const Corpus& corpus, int64_t vocab_size, const std::string& xxh3) {
  if (corpus.vocab_size() != vocab_size)
    throw DataError(fmt::format("{}: made with a vocabulary of {}, the tokenizer has {}",
                                corpus.path(), corpus.vocab_size(), vocab_size));
  if (corpus.info().tokenizer_xxh3 != xxh3)
    throw DataError(fmt::format("{}: made with another tokenizer.json (xxh3 {}, not {})",
                                corpus.path(), corpus.info().tokenizer_xxh3, xxh3));
}

}  // namespace strait
