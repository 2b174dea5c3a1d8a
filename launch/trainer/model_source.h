// launch/trainer/model_source.h: a trained model on disk, whatever form it has, for
// what only reads one: eval, generate, export, training that starts from it.
//
// A source is a checkpoint's step folder, a run folder (then its newest whole checkpoint), or a
// Hugging Face folder. Tensor names are Hugging Face's. One thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/nn/model_settings.h"
#include "data/huggingface/config_json.h"
#include "data/huggingface/safetensors.h"
#include "data/tokenizer/tokenizer.h"
#include "launch/engine/engine.h"

namespace strait {

class ModelSource {
 public:
  // Reads the description, not the weights, and checks that every tensor of the model is there with
  // its shape. Throws DataError that names the path and what is wrong with it.
  explicit ModelSource(const std::string& path);
  ~ModelSource();
  ModelSource(ModelSource&&) noexcept;

  const std::string& path() const;  // what was opened: of a run, the step folder
  const ModelSettings& settings() const;
  // Precision the model is meant to run in: of a checkpoint the recipe's, else that of the weights.
  DType compute() const;
  // Sequence length it was trained with: of a checkpoint the recipe's, else what the folder says
  // (ModelFolderReader).
  int64_t sequence_length() const;
  // Newer checkpoints of the run that are damaged and were passed over, one line each.
  const std::vector<std::string>& skipped() const;

  const huggingface::SpecialTokens& tokens() const;
  // What a text starts with: BOS where the model has one (Strait trains without), else EOS, which
  // ends the document before. Throws DataError when it has neither.
  int32_t start_token() const;
  bool has_tokenizer() const;
  std::string tokenizer_json() const;  // its text. DataError: there is none
  // DataError: there is none, or it has more tokens than the model.
  Tokenizer tokenizer() const;

  // The trained tensors, MTP module included, and the selection biases if the model has them.
  const std::vector<huggingface::TensorSpec>& tensors() const;
  // Elements [offset, offset + out.size()) of a flattened tensor, in FP32: master weights of a
  // checkpoint. DataError: damaged.
  void read(const std::string& name, int64_t offset, std::span<float> out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct InferenceOptions {
  int64_t sequence_length = 1;
  int64_t micro_batch = 1;
  int num_threads = 0;                       // 0: all cores this process may use
  std::optional<ModelFormats> formats = {};  // else the source's
};
// An engine of one rank without training state or MTP module, weights loaded and packed.
std::unique_ptr<Engine> load_engine(ModelSource& source, const InferenceOptions& options);

}  // namespace strait
