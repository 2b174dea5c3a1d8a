// launch/commands/generate.h: `strait generate`: text from a trained model.
#pragma once

#include <cstdint>
#include <string>

namespace strait {

struct GenerateOptions {
  std::string model = {};   // a checkpoint, a run (its newest checkpoint), or a Hugging Face folder
  std::string prompt = {};  // may be empty
  int64_t max_tokens = 200;
  double temperature = 0.8;  // 0: greedy
  double top_p = 0.95;
  uint64_t seed = 0;
  bool json = false;
  int threads = 0;  // 0: all cores, or one for a small model
};

// Prints what follows the prompt as it is generated, and on stderr how fast; with `json` one line
// of JSON on stdout instead. The model sees the token that begins a text, then the prompt. Ends at
// EOS, after max_tokens, or when the model's max_position_embeddings are used up. The same options,
// machine kind and build give the same text, whatever the number of threads. Errors: RecipeError
// for an option out of range or a prompt longer than the model's positions; DataError for a model
// that cannot be read or has no tokenizer, or a prompt that is not UTF-8.
int run_generate(const GenerateOptions& options);

}  // namespace strait
