#include "launch/trainer/model_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>

#include "core/thread_pool.h"
#include "data/checkpoint/folder.h"
#include "data/checkpoint/reader.h"
#include "data/hdf5/read_file.h"
#include "data/huggingface/model_folder.h"
#include "launch/trainer/state.h"
#include "recipes/recipe.h"

namespace strait {
namespace {

namespace fs = std::filesystem;
using huggingface::TensorSpec;

constexpr size_t kBufferElements = 1 << 16;

bool is_selection_bias(const std::string& name) {
  return name.ends_with(".e_score_correction_bias");
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

// What a model of these settings is made of.
std::vector<TensorSpec> tensors_of(const ModelSettings& settings) {
  std::vector<TensorSpec> tensors;
  for (const checkpoint::TensorInfo& tensor : describe_model(settings, "").tensors)
    if (!is_selection_bias(tensor.name) || settings.topk_method == "noaux_tc")
      tensors.push_back({tensor.name, tensor.shape});
  return tensors;
}

}  // namespace

struct ModelSource::State {
  std::string path;
  ModelSettings settings;
  DType compute = DType::f32;
  int64_t sequence_length = 0;
  std::vector<std::string> skipped;
  huggingface::SpecialTokens tokens;
  std::vector<TensorSpec> tensors;

  std::optional<checkpoint::Reader> checkpoint;  // one of the two
  std::optional<huggingface::ModelFolderReader> folder;

  void open(const std::string& asked);
  void open_newest(const std::string& root, const std::string& asked);
  void open_checkpoint(const std::string& step_folder);
  void open_folder(const std::string& model_folder);
  void require_tensors() const;
};

void ModelSource::State::open(const std::string& asked) {
  std::error_code error;
  const fs::path where(asked);
  if (!fs::exists(where, error)) throw DataError(asked + ": no such folder");
  if (!fs::is_directory(where, error))
    throw DataError(
        asked + ": is a file; expected the folder of a checkpoint, a run or a Hugging Face model");
  if (fs::exists(where / "manifest.json", error)) return open_checkpoint(asked);
  if (fs::exists(where / "config.json", error)) return open_folder(asked);
  if (fs::is_directory(where / "checkpoints", error))
    return open_newest((where / "checkpoints").string(), asked);
  if (where.filename() == "checkpoints") return open_newest(asked, asked);
  throw DataError(asked +
                  ": is neither a checkpoint (it has no manifest.json), nor a run (no "
                  "checkpoints/), nor a Hugging "
                  "Face model (no config.json)");
}

void ModelSource::State::open_newest(const std::string& root, const std::string& asked) {
  const checkpoint::Latest latest = checkpoint::latest(root);
  for (const checkpoint::Damaged& damaged : latest.damaged) skipped.push_back(damaged.reason);
  if (latest.folder.empty())
    throw DataError(skipped.empty()
                        ? asked + ": has no checkpoint yet"
                        : fmt::format("{}: has no whole checkpoint: {}", asked, skipped.front()));
  open_checkpoint(latest.folder);
}

void ModelSource::State::open_checkpoint(const std::string& step_folder) {
  path = step_folder;
  checkpoint.emplace(step_folder);
  const checkpoint::Manifest& manifest = checkpoint->manifest();
  const std::string manifest_path = step_folder + "/manifest.json";
  if (manifest.recipe.empty()) throw DataError(manifest_path + ": holds no recipe");
  const Recipe recipe = read_recipe(manifest.recipe, manifest_path + " (recipe)");
  settings = recipe.model;
  compute = recipe.train.precision == "fp32" ? DType::f32 : DType::bf16;
  sequence_length = recipe.train.sequence_length;
  if (const auto eos = manifest.extra.find("eos_id"); eos != manifest.extra.end()) {
    const std::string& text = eos->second;
    const auto end = std::from_chars(text.data(), text.data() + text.size(), tokens.eos);
    if (end.ec != std::errc() || end.ptr != text.data() + text.size())
      throw DataError(fmt::format("{}: eos_id '{}' is not a number", manifest_path, text));
  }
}

void ModelSource::State::open_folder(const std::string& model_folder) {
  path = model_folder;
  folder.emplace(model_folder);
  settings = folder->settings();
  tokens = folder->tokens();
  sequence_length = folder->sequence_length();
  const auto embedding = folder->tensors().find("model.embed_tokens.weight");
  if (embedding != folder->tensors().end() && embedding->second.dtype != "F32")
    compute = DType::bf16;
}

void ModelSource::State::require_tensors() const {
  std::map<std::string, std::vector<int64_t>> stored;
  if (checkpoint) {
    for (const checkpoint::TensorInfo& tensor : checkpoint->manifest().model.tensors)
      stored[tensor.name] = tensor.shape;
  } else {
    for (const auto& [name, tensor] : folder->tensors()) stored[name] = tensor.shape;
  }
  for (const TensorSpec& tensor : tensors) {
    const auto found = stored.find(tensor.name);
    if (found == stored.end())
      throw DataError(fmt::format("{}: has no tensor {}", path, tensor.name));
    if (found->second != tensor.shape)
      throw DataError(fmt::format("{}: tensor {} has shape {}, the model's settings say {}", path,
                                  tensor.name, shape_text(found->second),
                                  shape_text(tensor.shape)));
  }
}

ModelSource::ModelSource(const std::string& path) : state_(std::make_unique<State>()) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.ends_with('/')) trimmed.pop_back();
  state_->open(trimmed);
  state_->tensors = tensors_of(state_->settings);
  state_->require_tensors();
}

ModelSource::~ModelSource() = default;
ModelSource::ModelSource(ModelSource&&) noexcept = default;

const std::string& ModelSource::path() const { return state_->path; }
const ModelSettings& ModelSource::settings() const { return state_->settings; }
DType ModelSource::compute() const { return state_->compute; }
int64_t ModelSource::sequence_length() const { return state_->sequence_length; }
const std::vector<std::string>& ModelSource::skipped() const { return state_->skipped; }
const huggingface::SpecialTokens& ModelSource::tokens() const { return state_->tokens; }
const std::vector<TensorSpec>& ModelSource::tensors() const { return state_->tensors; }

int32_t ModelSource::start_token() const {
  const huggingface::SpecialTokens& tokens = state_->tokens;
  const int64_t token = tokens.bos >= 0 ? tokens.bos : tokens.eos;
  if (token < 0)
    throw DataError(
        path() + ": says of no token that it begins (BOS) or ends (EOS) a text, and one is needed");
  if (token >= settings().vocab_size)
    throw DataError(
        fmt::format("{}: token {}, which begins a text, is outside the vocabulary of {}", path(),
                    token, settings().vocab_size));
  return static_cast<int32_t>(token);
}

bool ModelSource::has_tokenizer() const {
  if (state_->folder) return !state_->folder->tokenizer_json().empty();
  const auto& extra = state_->checkpoint->manifest().extra;
  const auto found = extra.find("tokenizer_json");
  return found != extra.end() && !found->second.empty();
}

std::string ModelSource::tokenizer_json() const {
  if (!has_tokenizer())
    throw DataError(path() + (state_->folder ? ": has no tokenizer.json"
                                             : ": the checkpoint holds no tokenizer"));
  if (state_->folder) return read_file(state_->folder->tokenizer_json());
  return state_->checkpoint->manifest().extra.at("tokenizer_json");
}

Tokenizer ModelSource::tokenizer() const {
  const std::string name =
      state_->folder ? path() + "/tokenizer.json" : path() + "/manifest.json (tokenizer)";
  Tokenizer tokenizer = Tokenizer::parse(tokenizer_json(), name);
  if (tokenizer.vocab_size() > settings().vocab_size)
    throw DataError(fmt::format("{}: has {} tokens, but the model's vocabulary has {}", name,
                                tokenizer.vocab_size(), settings().vocab_size));
  return tokenizer;
}

void ModelSource::read(const std::string& name, int64_t offset, std::span<float> out) {
  if (state_->folder) return state_->folder->read(name, offset, out);
  state_->checkpoint->read(name, is_selection_bias(name) ? checkpoint::kBias : checkpoint::kMaster,
                           offset, out);
}

namespace {

void read_bucket(ModelSource& source, Bucket& bucket, std::vector<float>& buffer) {
  buffer.resize(kBufferElements);
  for (const ShardPiece& piece : pieces_of_range(bucket, 0, bucket.numel)) {
    for (int64_t done = 0; done < piece.count; done += static_cast<int64_t>(kBufferElements)) {
      const auto count = std::min(static_cast<int64_t>(kBufferElements), piece.count - done);
      const auto values = std::span(buffer).first(static_cast<size_t>(count));
      source.read(piece.part->name, piece.offset + done, values);
      const int64_t at = piece.shard_offset + done;
      if (bucket.dtype == DType::f32) {
        std::copy(values.begin(), values.end(), bucket.weights.data<float>() + at);
      } else {
        std::transform(values.begin(), values.end(), bucket.weights.data<bfloat16>() + at,
                       to_bfloat16);
      }
    }
  }
}

}  // namespace

std::unique_ptr<Engine> load_engine(ModelSource& source, const InferenceOptions& options) {
  EngineSettings settings;
  settings.model = source.settings();
  settings.model.num_nextn_predict_layers = 0;
  settings.formats = options.formats.value_or(source.compute());
  settings.fp8_dispatch = settings.formats.experts == DType::e4m3;
  settings.sequence_length = options.sequence_length;
  settings.micro_batch = options.micro_batch;
  settings.num_threads = options.num_threads > 0 ? options.num_threads : default_num_threads(1);
  settings.training = false;
  auto engine = std::make_unique<Engine>(settings, Mesh(1, 1, 1), Rank{0}, nullptr, Device::cpu);
  std::vector<float> buffer;
  for (Bucket& bucket : engine->buckets()) read_bucket(source, bucket, buffer);
  const Model& model = engine->model();
  const auto experts = static_cast<size_t>(model.settings.n_routed_experts);
  for (int64_t layer = 0; layer < model.num_layers(); ++layer) {
    const LayerParameters& parameters = model.layers[static_cast<size_t>(layer)];
    if (!parameters.is_moe || model.settings.topk_method != "noaux_tc") continue;
    source.read(selection_bias_name(model, layer), 0,
                std::span(engine->selection_bias())
                    .subspan(static_cast<size_t>(parameters.moe_index) * experts, experts));
  }
  engine->load_weights();
  return engine;
}

}  // namespace strait
