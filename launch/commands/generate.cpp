#include "launch/commands/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/nn/decode.h"
#include "core/nn/decode_sampling.h"
#include "core/thread_pool.h"
#include "data/tokenizer/utf8.h"
#include "launch/commands/ranks.h"
#include "launch/trainer/model_source.h"

namespace strait {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

void check(const GenerateOptions& options) {
  if (options.max_tokens < 1)
    throw RecipeError(fmt::format("--max-tokens: expected 1 or more, got {}", options.max_tokens));
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature))
    throw RecipeError(
        fmt::format("--temperature: expected 0 or more, got {}", options.temperature));
  if (!(options.top_p > 0 && options.top_p <= 1))
    throw RecipeError(
        fmt::format("--top-p: expected more than 0 and at most 1, got {}", options.top_p));
}

// The token that begins a text, then the prompt's.
std::vector<int32_t> prompt_ids(const ModelSource& source, const Tokenizer& tokenizer,
                                const std::string& prompt) {
  require_utf8(prompt, "--prompt");
  std::vector<int32_t> ids;
  const huggingface::SpecialTokens& tokens = source.tokens();
  if (prompt.empty() || tokens.bos >= 0 || tokens.eos >= 0) ids.push_back(source.start_token());
  Encoder(tokenizer).encode(prompt, ids);
  const int64_t most = source.settings().max_position_embeddings;
  if (static_cast<int64_t>(ids.size()) > most)
    throw RecipeError(fmt::format("the prompt has {} tokens; {} has max_position_embeddings: {}",
                                  ids.size(), source.path(), most));
  return ids;
}

// A product of one token with a small matrix takes a few microseconds, less than waking a thread
// does: below 32 MB of weights a token (about 1 ms at one core's memory bandwidth) one thread is
// the fastest.
int threads_of(const ModelSource& source, const GenerateOptions& options) {
  if (options.threads > 0) return options.threads;
  const double bytes = static_cast<double>(count_parameters(source.settings()).active_matrix) *
                       static_cast<double>(size_of(source.compute()));
  return bytes < 32e6 ? 1 : default_num_threads(1);
}

struct Outcome {
  std::string text;
  std::vector<int32_t> ids;  // generated, EOS not included
  const char* stop = "max_tokens";
  double prompt_seconds = 0, seconds = 0;
  int64_t cache_bytes = 0;
};

int32_t next_token(const ModelSource& source, std::span<const float> logits,
                   const SamplingSettings& sampling, uint64_t draw) {
  try {
    return sample_token(logits, sampling, draw);
  } catch (const NumericsError& error) {
    throw NumericsError(source.path() + ": " + error.what());
  }
}

Outcome generate(ModelSource& source, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                 const GenerateOptions& options) {
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  const auto engine = load_engine(source, {.num_threads = threads_of(source, options)});
  // The last token generated needs no position of its own.
  const int64_t positions =
      std::min(source.settings().max_position_embeddings, prompt_tokens + options.max_tokens - 1);
  Decoder decoder(engine->ctx(), engine->model(), engine->selection_bias(), positions);
  const auto vocabulary =
      static_cast<size_t>(tokenizer.vocab_size());  // the model may have more rows
  StreamDecoder stream(tokenizer);
  Outcome outcome;
  const auto say = [&](const std::string& text) {
    outcome.text += text;
    if (options.json || text.empty()) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  const SamplingSettings sampling{
      .temperature = options.temperature, .top_p = options.top_p, .seed = options.seed};
  const Clock::time_point start = Clock::now();
  Tensor logits = decoder.run(prompt);
  const Clock::time_point prompt_done = Clock::now();
  for (uint64_t draw = 0; draw < static_cast<uint64_t>(options.max_tokens); ++draw) {
    const int32_t id = next_token(source, logits.span<float>().first(vocabulary), sampling, draw);
    if (id == source.tokens().eos) {
      outcome.stop = "eos";
      break;
    }
    outcome.ids.push_back(id);
    say(stream.push(id));
    if (draw + 1 == static_cast<uint64_t>(options.max_tokens)) break;
    if (decoder.positions() == decoder.max_positions()) {
      outcome.stop = "max_position_embeddings";
      break;
    }
    logits = decoder.run(std::span(&id, 1));
  }
  say(stream.finish());
  outcome.prompt_seconds = seconds_between(start, prompt_done);
  outcome.seconds = seconds_between(prompt_done, Clock::now());
  outcome.cache_bytes = decoder.cache_bytes();
  return outcome;
}

std::string to_json(const ModelSource& source, const GenerateOptions& options, size_t prompt_tokens,
                    const Outcome& outcome) {
  const nlohmann::ordered_json json = {
      {"model", source.path()},
      {"prompt", options.prompt},
      {"text", outcome.text},
      {"ids", outcome.ids},
      {"stop", outcome.stop},
      {"prompt_tokens", prompt_tokens},
      {"tokens", outcome.ids.size()},
      {"prompt_seconds", outcome.prompt_seconds},
      {"seconds", outcome.seconds},
      {"tokens_per_second",
       static_cast<double>(outcome.ids.size()) / std::max(outcome.seconds, 1e-9)},
      {"cache_bytes", outcome.cache_bytes}};
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

int run_generate(const GenerateOptions& options) {
  check(options);
  ModelSource source(options.model);
  for (const std::string& line : source.skipped()) print_error("passed over: " + line);
  const Tokenizer tokenizer = source.tokenizer();
  const std::vector<int32_t> prompt = prompt_ids(source, tokenizer, options.prompt);
  const Outcome outcome = generate(source, tokenizer, prompt, options);
  if (options.json) {
    fmt::print("{}\n", to_json(source, options, prompt.size(), outcome));
    return 0;
  }
  fmt::print("\n");
  std::fflush(stdout);
  fmt::print(
      stderr,
      "{} tokens in {:.2f} s ({:.0f} tokens/s) after {} of the prompt in {:.2f} s; stopped at {}\n",
      outcome.ids.size(), outcome.seconds,
      static_cast<double>(outcome.ids.size()) / std::max(outcome.seconds, 1e-9), prompt.size(),
      outcome.prompt_seconds, outcome.stop);
  return 0;
}

}  // namespace strait
