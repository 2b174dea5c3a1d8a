#include "data/corpus/corpus_writer.h"

#include <fmt/format.h>

#include <utility>

#include "core/errors.h"
#include "data/hdf5/durable.h"

namespace strait {
namespace {

// A window of 4096 tokens touches one or two chunks of 128 or 256 KiB; larger chunks would read
// more than is used.
constexpr int64_t kTokenChunk = int64_t{1} << 16;
constexpr int64_t kOffsetChunk = int64_t{1} << 13;

std::string checked_temporary(const std::string& path, int64_t expected_bytes) {
  require_free_disk(path, expected_bytes);
  return temporary_name(path);
}

}  // namespace

CorpusWriter::CorpusWriter(std::string path, CorpusInfo info, int64_t expected_bytes)
    : path_(std::move(path)),
      temporary_(checked_temporary(path_, expected_bytes)),
      info_(std::move(info)),
      file_(hdf5::File::create(temporary_)),
      train_(make_part(Split::train)),
      held_out_(make_part(Split::held_out)) {
  STRAIT_CHECK(info_.vocab_size >= 1 && info_.eos_id >= 0 && info_.eos_id < info_.vocab_size,
               path_);
  file_.set_attribute("/", "format_version", kCorpusFormatVersion);
  file_.set_attribute("/", "vocab_size", info_.vocab_size);
  file_.set_attribute("/", "eos_id", int64_t{info_.eos_id});
  file_.set_attribute("/", "tokenizer_xxh3", info_.tokenizer_xxh3);
  file_.set_attribute("/", "source", info_.source);
  file_.set_attribute("/", "licence", info_.licence);
  file_.set_attribute("/", "inputs", info_.inputs_json);
}

CorpusWriter::~CorpusWriter() {
  if (!finished_) discard(temporary_);
}

CorpusWriter::Part CorpusWriter::make_part(Split split) {
  const std::string group = fmt::format("/{}", name_of(split));
  const hdf5::Type type = info_.vocab_size <= 65536 ? hdf5::Type::u16 : hdf5::Type::u32;
  file_.create_group(group);
  return Part{.tokens = file_.create_dataset(group + "/tokens", {.type = type,
                                                                 .shape = {0},
                                                                 .growing = true,
                                                                 .chunk_rows = kTokenChunk,
                                                                 .checksums = true}),
              .documents = file_.create_dataset(group + "/documents", {.type = hdf5::Type::i64,
                                                                       .shape = {0},
                                                                       .growing = true,
                                                                       .chunk_rows = kOffsetChunk,
                                                                       .checksums = true}),
              .narrow = {},
              .wide = {},
              .offsets = {0}};
}

void CorpusWriter::add(Split split, std::span<const int32_t> tokens, int64_t bytes) {
  Part& to = part(split);
  const auto put = [&](int32_t token) {
    STRAIT_CHECK(token >= 0 && token < info_.vocab_size, fmt::format("token {}", token));
    if (info_.vocab_size <= 65536)
      to.narrow.push_back(static_cast<uint16_t>(token));
    else
      to.wide.push_back(static_cast<uint32_t>(token));
    if (static_cast<int64_t>(to.narrow.size() + to.wide.size()) >= 16 * kTokenChunk) write_out(to);
  };
  for (const int32_t token : tokens) put(token);
  put(info_.eos_id);
  to.num_documents += 1;
  to.num_tokens += static_cast<int64_t>(tokens.size()) + 1;
  to.num_bytes += bytes;
  to.offsets.push_back(to.num_tokens);
}

void CorpusWriter::write_out(Part& part) {
  part.tokens.append(static_cast<int64_t>(part.narrow.size()), part.narrow.data());
  part.tokens.append(static_cast<int64_t>(part.wide.size()), part.wide.data());
  part.documents.append(static_cast<int64_t>(part.offsets.size()), part.offsets.data());
  part.narrow.clear();
  part.wide.clear();
  part.offsets.clear();
}

void CorpusWriter::finish() {
  STRAIT_CHECK(!finished_, path_);
  for (const Split split : {Split::train, Split::held_out}) {
    write_out(part(split));
    file_.set_attribute(fmt::format("/{}", name_of(split)), "bytes", part(split).num_bytes);
  }
  file_.close();
  publish(temporary_, path_);
  finished_ = true;
}

int64_t CorpusWriter::num_documents(Split split) const { return part(split).num_documents; }
int64_t CorpusWriter::num_tokens(Split split) const { return part(split).num_tokens; }
int64_t CorpusWriter::num_bytes(Split split) const { return part(split).num_bytes; }

}  // namespace strait
