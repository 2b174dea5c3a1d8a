#include "launch/commands/eval.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <vector>

#include "data/hdf5/read_file.h"
#include "data/tokenizer/utf8.h"
#include "launch/commands/logits_file.h"
#include "launch/commands/ranks.h"
#include "launch/trainer/balance.h"
#include "launch/trainer/model_source.h"

namespace strait {
namespace {

constexpr int64_t kBatchTokens = 1024;  // enough rows for the experts' products

std::string read_utf8(const std::string& path) {
  std::string text = read_file(path);
  if (text.empty()) throw DataError(path + ": is empty");
  require_utf8(text, path);
  return text;
}

// Windows of `length` predictions: stream[i] is the last token that the prediction of stream[i + 1]
// sees.
struct Windows {
  std::vector<int32_t> stream;  // the start token, then the text's
  int64_t length = 0;

  int64_t num_targets() const { return static_cast<int64_t>(stream.size()) - 1; }
  int64_t num_whole() const { return num_targets() / length; }
  int64_t count() const { return (num_targets() + length - 1) / length; }
  // `batch` windows from `first` on; -1 past the text's end.
  std::vector<int32_t> batch(int64_t first, int64_t batch) const {
    std::vector<int32_t> tokens;
    for (int64_t window = first; window < first + batch; ++window)
      for (int64_t at = window * length; at <= (window + 1) * length; ++at)
        tokens.push_back(at <= num_targets() ? stream[static_cast<size_t>(at)] : -1);
    return tokens;
  }
};

Windows cut(const ModelSource& source, const std::string& text, int64_t length) {
  Windows windows;
  windows.stream.push_back(source.start_token());
  Encoder(source.tokenizer()).encode(text, windows.stream);
  windows.length = std::min(length, windows.num_targets());
  return windows;
}

int64_t length_of(const EvalOptions& options, const ModelSource& source) {
  const int64_t most = source.settings().max_position_embeddings;
  if (options.sequence_length == 0) return source.sequence_length();
  if (options.sequence_length < 1 || options.sequence_length > most)
    throw RecipeError(
        fmt::format("--sequence-length: expected 1 to {} (max_position_embeddings of {}), got {}",
                    most, source.path(), options.sequence_length));
  return options.sequence_length;
}

std::optional<ModelFormats> formats_of(const EvalOptions& options) {
  if (options.precision.empty()) return std::nullopt;
  if (options.precision == "fp32") return DType::f32;
  ModelFormats formats = DType::bf16;
  if (options.precision == "bf16") return formats;
  if (options.precision != "fp8")
    throw RecipeError(
        fmt::format("--precision: expected fp32, bf16 or fp8, got '{}'", options.precision));
  formats.attention = formats.mlp = formats.experts = DType::e4m3;
  return formats;
}

std::string to_json(const EvalResult& result) {
  nlohmann::ordered_json json = {
      {"model", result.model},           {"tokens", result.tokens},
      {"bytes", result.bytes},           {"sequence_length", result.sequence_length},
      {"windows", result.windows},       {"nll", result.nll},
      {"perplexity", result.perplexity}, {"bits_per_byte", result.bits_per_byte}};
  if (result.mean_violation >= 0) {
    json["max_violation_mean"] = result.mean_violation;
    json["max_violation_worst_layer"] = result.worst_violation;
  }
  json["seconds"] = result.seconds;
  json["tokens_per_second"] = static_cast<double>(result.tokens) / std::max(result.seconds, 1e-9);
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

EvalResult evaluate_text(const EvalOptions& options) {
  const std::string text = read_utf8(options.text);
  ModelSource source(options.model);
  for (const std::string& line : source.skipped()) print_error("passed over: " + line);
  const Windows windows = cut(source, text, length_of(options, source));
  const int64_t batch = std::clamp(kBatchTokens / windows.length, int64_t{1}, windows.num_whole());
  const auto engine = load_engine(source, {.sequence_length = windows.length,
                                           .micro_batch = batch,
                                           .num_threads = options.threads,
                                           .formats = formats_of(options)});
  std::unique_ptr<LogitsFile> logits;
  if (!options.logits.empty())
    logits =
        std::make_unique<LogitsFile>(options.logits, *engine, windows.num_whole(), windows.length);

  const auto start = std::chrono::steady_clock::now();
  double nll = 0, targets = 0;
  std::vector<int64_t> counts(engine->selection_bias().size(), 0);
  for (int64_t first = 0; first < windows.count(); first += batch) {
    const std::vector<int32_t> tokens = windows.batch(first, batch);
    if (logits) logits->begin_batch(tokens);
    const Engine::Evaluation part = engine->evaluate(tokens);
    nll += part.nll;
    targets += part.targets;
    if (first + batch > windows.num_whole()) continue;  // its padding is routed too
    for (size_t i = 0; i < part.expert_counts.size(); ++i) counts[i] += part.expert_counts[i];
  }
  if (logits) logits->finish();
  STRAIT_CHECK(targets == static_cast<double>(windows.num_targets()),
               "not every token was predicted once");
  if (!std::isfinite(nll))
    throw NumericsError(
        fmt::format("{}: the loss on {} is not finite", source.path(), options.text));

  EvalResult result{.model = source.path(),
                    .tokens = windows.num_targets(),
                    .bytes = static_cast<int64_t>(text.size()),
                    .sequence_length = windows.length,
                    .windows = windows.count()};
  result.nll = nll / targets;
  result.perplexity = std::exp(result.nll);
  result.bits_per_byte = nll / std::numbers::ln2 / static_cast<double>(result.bytes);
  if (!counts.empty()) {
    const MaxViolation violation = max_violation(counts, source.settings().n_routed_experts);
    result.mean_violation = violation.mean;
    result.worst_violation = violation.worst_layer;
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

int run_eval(const EvalOptions& options) {
  const EvalResult result = evaluate_text(options);
  if (options.json) {
    fmt::print("{}\n", to_json(result));
    return 0;
  }
  fmt::print("{} on {}\n", result.model, options.text);
  fmt::print("  {} tokens, {} bytes, in {} windows of {}\n", result.tokens, result.bytes,
             result.windows, result.sequence_length);
  fmt::print("  {:.4f} nats per token, perplexity {:.3f}, {:.4f} bits per byte\n", result.nll,
             result.perplexity, result.bits_per_byte);
  if (result.mean_violation >= 0)
    fmt::print("  expert load MaxVio {:.3f}, worst layer {:.3f}\n", result.mean_violation,
               result.worst_violation);
  fmt::print("  {:.1f} s, {:.0f} tokens/s\n", result.seconds,
             static_cast<double>(result.tokens) / std::max(result.seconds, 1e-9));
  return 0;
}

}  // namespace strait
