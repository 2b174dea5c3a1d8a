#include "core/nn/decode_sampling.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/errors.h"
#include "core/scramble.h"

namespace strait {
namespace {

double uniform(uint64_t seed, uint64_t draw) {  // in [0, 1)
  return static_cast<double>(splitmix(splitmix(seed) ^ splitmix(~draw)) >> 11) * 0x1p-53;
}

size_t largest(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]))
      throw NumericsError("the logit of token " + std::to_string(i) + " is not a number");
    if (logits[i] > logits[best]) best = i;
  }
  if (!std::isfinite(logits[best])) throw NumericsError("the largest logit is not finite");
  return best;
}

}  // namespace

int32_t sample_token(std::span<const float> logits_V, const SamplingSettings& settings,
                     uint64_t draw) {
  STRAIT_CHECK(
      !logits_V.empty() && settings.temperature >= 0 && settings.top_p > 0 && settings.top_p <= 1,
      "temperature " + std::to_string(settings.temperature) + ", top_p " +
          std::to_string(settings.top_p));
  const size_t best = largest(logits_V);
  if (settings.temperature == 0) return static_cast<int32_t>(best);
  struct Candidate {
    double weight;
    int32_t id;
  };
  std::vector<Candidate> candidates;
  candidates.reserve(logits_V.size());
  double total = 0;
  for (size_t i = 0; i < logits_V.size(); ++i) {
    const double above = static_cast<double>(logits_V[i]) - static_cast<double>(logits_V[best]);
    const double weight = std::exp(above / settings.temperature);
    candidates.push_back({weight, static_cast<int32_t>(i)});
    total += weight;
  }
  auto chosen = candidates.begin();  // candidates from here on take part
  if (settings.top_p < 1) {
    const auto less_likely = [](const Candidate& a, const Candidate& b) {
      return a.weight != b.weight ? a.weight < b.weight : a.id > b.id;
    };
    std::make_heap(candidates.begin(), candidates.end(), less_likely);
    chosen = candidates.end();
    const double enough = settings.top_p * total;
    for (total = 0; total < enough && chosen != candidates.begin(); --chosen) {
      std::pop_heap(candidates.begin(), chosen, less_likely);
      total += std::prev(chosen)->weight;
    }
  }
  double left = uniform(settings.seed, draw) * total;
  int32_t last = static_cast<int32_t>(best);
  for (; chosen != candidates.end(); ++chosen) {
    if (chosen->weight == 0) continue;
    last = chosen->id;
    left -= chosen->weight;
    if (left < 0) break;
  }
  return last;
}

}  // namespace strait
