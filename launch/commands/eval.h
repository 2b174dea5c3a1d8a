// launch/commands/eval.h: `strait eval`: how well a model predicts a text.
#pragma once

#include <cstdint>
#include <string>

namespace strait {

struct EvalOptions {
  std::string model = {};  // a checkpoint, a run (its newest checkpoint), or a Hugging Face folder
  std::string text = {};   // a UTF-8 file
  bool json = false;
  int64_t sequence_length = 0;  // 0: the model's own, see ModelSource
  std::string precision = {};   // fp32 or bf16; empty: the model's own, see ModelSource
  std::string logits = {};      // a file for the logits of the text's whole windows (LogitsFile)
  int threads = 0;              // 0: all cores
};

struct EvalResult {
  std::string model = {};
  int64_t tokens = 0, bytes = 0;  // of the file
  int64_t sequence_length = 0, windows = 0;
  double nll = 0;  // mean negative log-likelihood of a token, nats
  double perplexity = 0, bits_per_byte = 0;
  // MaxVio = (tokens of the most loaded expert / mean) - 1, over the text's whole windows: the mean
  // and the worst of the MoE layers. Negative: the model has none.
  double mean_violation = -1, worst_violation = -1;
  double seconds = 0;
};

// The text's tokens, after the token that begins a text (ModelSource::start_token), are cut into
// windows of the sequence length that follow each other without overlap. Within a window each token
// is predicted from the tokens before it in the window, its first one from the last of the window
// before; so each token of the text counts exactly once. That the text then ends is not predicted.
// Bytes are those of the file.
// Errors: DataError when the model or the text cannot be read, or the text is empty or not UTF-8
// (with the byte offset); RecipeError for an option out of range; NumericsError when the loss is
// not finite.
EvalResult evaluate_text(const EvalOptions& options);

// Prints the result as a few lines or as one line of JSON; returns 0.
int run_eval(const EvalOptions& options);

}  // namespace strait
