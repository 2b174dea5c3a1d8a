// data/corpus/corpus.h: a tokenised corpus on disk: what `strait data prepare` writes and training
// reads.
//
// A corpus is a folder:
//   corpus.h5       /train and /held_out, each with `tokens` (1-D, chunked, uint16 if vocab_size <=
//                   65536, else uint32) and `documents` (int64 [D+1]: document d is tokens
//                   [documents[d], documents[d+1])). Every document ends with the EOS token.
//                   Attributes of "/": format_version, vocab_size, eos_id, tokenizer_xxh3, source,
//                   licence, inputs (JSON: path, bytes, xxh3, documents of every input); of each
//                   split: bytes (of UTF-8 text in it).
//   tokenizer.json  the tokenizer that made it, and tokenizer_config.json, if it has one, which
//   says
//                   what its EOS is
//   held_out.txt    the held-out documents as text, in order, each followed by one newline if it
//                   does not end in one: what `strait eval --text` takes
// Errors are DataErrors that name the file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/hdf5/file.h"

namespace strait {

enum class Split : uint8_t { train, held_out };
const char* name_of(Split split);
inline constexpr int64_t kCorpusFormatVersion = 1;

// What is said about a corpus as a whole.
struct CorpusInfo {
  int64_t vocab_size = 0;
  int32_t eos_id = 0;
  std::string tokenizer_xxh3{};  // hexadecimal, of the bytes of tokenizer.json
  std::string source{};          // where the text came from
  std::string licence{};         // empty: not given
  std::string inputs_json{};     // [{"path": ..., "bytes": ..., "xxh3": ...}, ...]
};

// corpus.h5 of a corpus folder; a path that names a file is taken as it is.
std::string corpus_file(const std::string& folder_or_file);

// One split, opened for reading. Holds no tokens in memory; const calls are thread-safe.
class Corpus {
 public:
  // Checks the format version, the shapes, the types and that the offsets rise from 0 to the number
  // of tokens. Cost: reads `documents` once (8 bytes a document, in blocks).
  explicit Corpus(const std::string& folder_or_file, Split split = Split::train);

  const std::string& path() const { return file_.path(); }
  Split split() const { return split_; }
  const CorpusInfo& info() const { return info_; }
  int64_t num_tokens() const { return tokens_.num_rows(); }
  int64_t num_documents() const { return documents_.num_rows() - 1; }
  int64_t num_bytes() const { return num_bytes_; }  // UTF-8 bytes of the split's text
  int64_t vocab_size() const { return info_.vocab_size; }
  int32_t eos_id() const { return info_.eos_id; }

  // Tokens [first, first + tokens.size()). REQUIRES: they exist. Throws when an id is not in the
  // vocabulary.
  void read_tokens(int64_t first, std::span<int32_t> tokens) const;
  // offsets[i] = documents[first + i]. REQUIRES: first + offsets.size() <= num_documents() + 1.
  void read_offsets(int64_t first, std::span<int64_t> offsets) const;
  // The tokens of one document, its EOS included.
  std::vector<int32_t> document(int64_t index) const;

 private:
  hdf5::File file_;
  Split split_;
  CorpusInfo info_;
  hdf5::Dataset tokens_, documents_;
  int64_t num_bytes_ = 0;
};

// Throws when the corpus was not made by the tokenizer with this vocabulary size and hash.
void require_same_tokenizer(const Corpus& corpus, int64_t vocab_size, const std::string& xxh3);

}  // namespace strait
