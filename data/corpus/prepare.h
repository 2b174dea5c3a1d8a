// data/corpus/prepare.h: from text files to a corpus folder (its parts: data/corpus/corpus.h).
//
// The text is read three times, block by block: to check it and decide the split, to count words
// (unless a tokenizer is given), and to encode it. Memory does not grow with the text, but for the
// tokenizer trainer's word table, which has a bound, and 100 bytes a file. The same text, settings
// and order of paths give the same tokenizer, tokens and split on any number of threads.
//   document   a file, or the field "text" of a line of .jsonl; longer ones are cut into several
//   held out   data/corpus/held_out_rule.h; the tokenizer learns from the others only
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace strait {

struct PrepareSettings {
  std::vector<std::string> paths = {};  // files and folders: data/corpus/input_files.h
  std::string out = {};                 // the corpus folder
  std::string tokenizer = {};           // a tokenizer.json to use; empty: one is trained
  int64_t vocab_size = 8192;            // of a trained one
  double held_out = 0.05;               // fraction of the bytes, in whole documents
  int64_t max_document_bytes = int64_t{32} << 10;
  std::string source = {}, licence = {};  // put into the corpus as they are
  bool replace = false;                   // of a corpus that is in `out` already
  int num_threads = 1;                    // that encode
};

enum class PreparePhase : uint8_t { read, count_words, learn_merges, encode };
const char* name_of(PreparePhase phase);

struct PrepareProgress {
  PreparePhase phase = PreparePhase::read;
  int64_t done = 0, total = 0;  // bytes of input; of learn_merges: tokens
};

struct PreparedSplit {
  int64_t num_documents = 0, num_tokens = 0, num_bytes = 0;
};

struct PrepareResult {
  int64_t num_files = 0, num_input_bytes = 0;
  int64_t num_empty_files = 0;      // in folders, left out
  int64_t num_blank_documents = 0;  // nothing but white space, left out
  int64_t vocab_size = 0;
  std::string tokenizer_xxh3;
  PreparedSplit train, held_out;
};

// Calls progress() often, from the calling thread; it may throw to stop. Whatever is thrown, `out`
// is as it was before. Throws RecipeError when the settings make no sense, DataError when the text,
// the tokenizer or the disk do not serve.
PrepareResult prepare_corpus(const PrepareSettings& settings,
                             const std::function<void(const PrepareProgress&)>& progress = {});

}  // namespace strait
