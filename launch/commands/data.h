// launch/commands/data.h: `strait data`: from text to a corpus, and looking into one. Each returns
// the exit code; results go to stdout, progress to stderr. Errors: RecipeError, DataError.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace strait {

struct DataPrepareOptions {
  std::string out;                 // the corpus folder
  std::vector<std::string> paths;  // files and folders
  int64_t vocab = 8192;            // of the tokenizer that is trained,
  std::string tokenizer;           // or a tokenizer.json (or its folder) to use
  double held_out = 0.05;
  int64_t max_document_bytes = int64_t{32} << 10;
  std::string source, licence;
  bool replace = false;
  bool json = false;
};
// SIGINT and SIGTERM stop it without a trace of the new corpus: 130 and 143.
int run_data_prepare(const DataPrepareOptions& options);

struct DataInspectOptions {
  std::string corpus;  // folder or corpus.h5
  bool json = false;
};
// What is in a corpus; reads all of it and throws DataError when anything is not as it should be.
int run_data_inspect(const DataInspectOptions& options);

struct DataEncodeOptions {
  std::string tokenizer;            // tokenizer.json or its folder
  std::string file;                 // "-": standard input
  bool add_special_tokens = false;  // those of the tokenizer's template
  bool json = false;
};
// The ids of a text on one line, with spaces between them or as a JSON list.
int run_data_encode(const DataEncodeOptions& options);

}  // namespace strait
