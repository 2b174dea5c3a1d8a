// data/huggingface/model_folder.h: a model as a Hugging Face folder: config.json,
// generation_config.json, safetensors weights (in shards with an index when they are large), and
// the tokenizer's files. Tensor names are Hugging Face's; the MTP module is layer
// `num_hidden_layers`. One thread at a time per object.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/huggingface/config_json.h"
#include "data/huggingface/safetensors.h"

namespace strait::huggingface {

struct ModelFolder {
  ModelSettings settings = {};
  DType dtype = DType::bf16;  // of the weights: bf16 or f32. Selection biases stay f32.
  bool fp8 = false;           // linear layers' weights in the published FP8 (fp8_blocks.h)
  SpecialTokens tokens = {};
  std::string tokenizer_json = {};  // the text of tokenizer.json; empty: there is none
  int64_t sequence_length = 0;      // trained with: model_max_length; 0: max_position_embeddings
  int64_t max_shard_bytes = int64_t{5} << 30;  // one larger tensor gets a shard of its own
};

// Writes the folder under a temporary name beside `path`; finish() renames it. Destroyed before, it
// leaves nothing.
class ModelFolderWriter {
 public:
  // `tensors`: every tensor with its shape, in the order of the files (their dtype is ignored).
  // Checks that the model is exportable, that `path` is free (or an empty folder), and that the
  // disk has room. Tensors that `transformers` expects and Strait does not train are added: zero
  // biases for a sigmoid router without selection bias, and empty shared experts when there are
  // none. Throws RecipeError or DataError.
  ModelFolderWriter(const std::string& path, const ModelFolder& folder,
                    std::vector<TensorSpec> tensors);
  ~ModelFolderWriter();

  // The next values of a tensor, from its first element on; rounded to the folder's dtype, or
  // quantised once 128 rows of it are there. Tensors
  // may take turns. REQUIRES: the tensor was announced and has room.
  void append(const std::string& name, std::span<const float> values);

  // Throws DataError naming the first tensor that is not complete, or when the disk fails.
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class ModelFolderReader {
 public:
  // Reads config.json and every weight file's header. Throws DataError: no weights, an unsupported
  // config, an index that does not fit the files, FP8 weights without scales of the right shape.
  explicit ModelFolderReader(const std::string& path);
  ~ModelFolderReader();
  ModelFolderReader(ModelFolderReader&&) noexcept;

  // num_nextn_predict_layers is 0 when the folder has no MTP weights, whatever config.json says:
  // `transformers` drops them when it saves a model.
  const ModelSettings& settings() const;
  const SpecialTokens& tokens() const;
  std::string tokenizer_json() const;  // path, empty if there is none
  // Trained with: model_max_length of tokenizer_config.json where it says one that the model
  // allows, else max_position_embeddings.
  int64_t sequence_length() const;

  const std::map<std::string, StoredTensor>& tensors() const;
  bool has(const std::string& name) const;

  // See SafetensorsFile. FP8 weights are read as what they stand for. A tensor that is not there
  // throws DataError.
  void read(const std::string& name, int64_t offset, std::span<float> out) const;
  void read_raw(const std::string& name, int64_t offset, std::span<std::byte> out) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace strait::huggingface
