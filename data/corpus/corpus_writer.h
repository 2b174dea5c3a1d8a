// data/corpus/corpus_writer.h: writes corpus.h5 document by document, in bounded memory.
// Format: data/corpus/corpus.h. One thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/corpus/corpus.h"

namespace strait {

class CorpusWriter {
 public:
  // Writes to a temporary name beside `path`. `expected_bytes`: disk it will probably take; checked
  // at once (0: not known). Throws DataError when that is not free.
  CorpusWriter(std::string path, CorpusInfo info, int64_t expected_bytes);
  // Removes the temporary file unless finish() was reached.
  ~CorpusWriter();
  CorpusWriter(const CorpusWriter&) = delete;
  CorpusWriter& operator=(const CorpusWriter&) = delete;

  // `tokens` without the EOS, which is appended. REQUIRES: ids are in the vocabulary. `bytes`:
  // UTF-8 bytes of it.
  void add(Split split, std::span<const int32_t> tokens, int64_t bytes);

  // Writes what is buffered and renames to `path`: afterwards the corpus is whole. A full disk is a
  // DataError here or in add(), and nothing is left behind.
  void finish();

  int64_t num_documents(Split split) const;
  int64_t num_tokens(Split split) const;
  int64_t num_bytes(Split split) const;

 private:
  struct Part {
    hdf5::Dataset tokens, documents;
    std::vector<uint16_t> narrow;  // tokens not yet written: one of the two
    std::vector<uint32_t> wide;
    std::vector<int64_t> offsets;  // offsets not yet written
    int64_t num_documents = 0, num_tokens = 0, num_bytes = 0;
  };
  Part make_part(Split split);
  void write_out(Part& part);
  Part& part(Split split) { return split == Split::train ? train_ : held_out_; }
  const Part& part(Split split) const { return split == Split::train ? train_ : held_out_; }

  std::string path_, temporary_;
  CorpusInfo info_;
  hdf5::File file_;
  Part train_, held_out_;
  bool finished_ = false;
};

}  // namespace strait
