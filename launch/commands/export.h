// launch/commands/export.h: `strait export`: a trained model as a Hugging Face folder.
#pragma once

#include <string>

namespace strait {

struct ExportOptions {
  std::string from = {};  // a checkpoint, a run (its newest checkpoint), or a Hugging Face folder
  std::string to = {};    // the new folder
  std::string dtype = "bf16";  // or "fp32", "fp8" (linear layers as published, the rest BF16);
                               // selection biases stay FP32
  bool json = false;
};

// Writes config.json, the weights with the MTP module and the selection biases, and the tokenizer's
// files, and prints a line. Memory does not grow with the model. The folder appears whole or not at
// all. Errors: RecipeError for a wrong dtype or a model that `transformers` has no class for;
// DataError when `to` exists, `from` cannot be read or is damaged, or the disk is full;
// NumericsError when a weight is not finite. Returns 0.
int run_export(const ExportOptions& options);

}  // namespace strait
