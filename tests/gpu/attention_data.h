// tests/gpu/attention_data.h: inputs of attention, and its definition in double precision.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "core/ops/cuda/attention.h"
#include "tests/gpu/gpu_test.h"

namespace strait::cuda {

using Bits16 = std::vector<uint16_t>;  // BF16

inline uint16_t bf16_bits(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline double bf16_value(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

struct AttentionData {
  AttentionShape shape;
  float scale = 1;
  Bits16 q, k, v, d_o;

  explicit AttentionData(const AttentionShape& s, unsigned seed = 1)
      : shape(s), scale(1 / std::sqrt(static_cast<float>(s.qk_dim))) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](Bits16& to, int64_t dim) {
      to.resize(static_cast<size_t>(s.batch * s.length * s.heads * dim));
      for (uint16_t& x : to) x = bf16_bits(normal(random));
    };
    fill(q, s.qk_dim);
    fill(k, s.qk_dim);
    fill(v, s.v_dim);
    fill(d_o, s.v_dim);
  }

  size_t at(int64_t batch, int64_t row, int64_t head, int64_t dim) const {
    return static_cast<size_t>(((batch * shape.length + row) * shape.heads + head) * dim);
  }
};

struct AttentionResult {
  std::vector<double> o, stats, dq, dk, dv;
};

// Forward and backward as defined, one score at a time. The O that backward uses is the exact one.
inline AttentionResult attention_reference(const AttentionData& data) {
  const AttentionShape& s = data.shape;
  const int64_t dqk = s.qk_dim, dv = s.v_dim;
  AttentionResult r;
  r.o.resize(data.v.size());
  r.stats.resize(static_cast<size_t>(s.batch * s.heads * s.length));
  r.dq.resize(data.q.size());
  r.dk.resize(data.k.size());
  r.dv.resize(data.v.size());
  std::vector<double> weights(static_cast<size_t>(s.length));
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t h = 0; h < s.heads; ++h)
      for (int64_t i = 0; i < s.length; ++i) {
        const size_t qi = data.at(b, i, h, dqk), oi = data.at(b, i, h, dv);
        double most = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int64_t j = 0; j <= i; ++j) {
          double score = 0;
          for (int64_t d = 0; d < dqk; ++d)
            score += bf16_value(data.q[qi + size_t(d)]) *
                     bf16_value(data.k[data.at(b, j, h, dqk) + size_t(d)]);
          weights[size_t(j)] = data.scale * score;
          most = std::max(most, weights[size_t(j)]);
        }
        for (int64_t j = 0; j <= i; ++j)
          sum += weights[size_t(j)] = std::exp(weights[size_t(j)] - most);
        double row_dot = 0;
        for (int64_t j = 0; j <= i; ++j) {
          weights[size_t(j)] /= sum;
          const size_t vj = data.at(b, j, h, dv);
          for (int64_t d = 0; d < dv; ++d)
            r.o[oi + size_t(d)] += weights[size_t(j)] * bf16_value(data.v[vj + size_t(d)]);
        }
        for (int64_t d = 0; d < dv; ++d)
          row_dot += r.o[oi + size_t(d)] * bf16_value(data.d_o[oi + size_t(d)]);
        r.stats[size_t((b * s.heads + h) * s.length + i)] = most + std::log(sum);
        for (int64_t j = 0; j <= i; ++j) {
          const size_t vj = data.at(b, j, h, dv), kj = data.at(b, j, h, dqk);
          double d_weight = 0;
          for (int64_t d = 0; d < dv; ++d) {
            const double d_out = bf16_value(data.d_o[oi + size_t(d)]);
            d_weight += d_out * bf16_value(data.v[vj + size_t(d)]);
            r.dv[vj + size_t(d)] += weights[size_t(j)] * d_out;
          }
          const double d_score = data.scale * weights[size_t(j)] * (d_weight - row_dot);
          for (int64_t d = 0; d < dqk; ++d) {
            r.dq[qi + size_t(d)] += d_score * bf16_value(data.k[kj + size_t(d)]);
            r.dk[kj + size_t(d)] += d_score * bf16_value(data.q[qi + size_t(d)]);
          }
        }
      }
  return r;
}

inline std::vector<double> values_of(const Bits16& bits) {
  std::vector<double> values;
  for (const uint16_t b : bits) values.push_back(bf16_value(b));
  return values;
}

// Relative L2 distance; NaN anywhere gives NaN.
inline double distance(const std::vector<double>& got, const std::vector<double>& want) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(difference / norm);
}

// Inputs on the device, and outputs poisoned before every run.
class AttentionOnDevice {
 public:
  explicit AttentionOnDevice(const AttentionData& data)
      : data_(data),
        q_(upload(data.q)),
        k_(upload(data.k)),
        v_(upload(data.v)),
        d_o_(upload(data.d_o)) {
    poison();
  }

  void poison() {
    o_ = poisoned(v_.bytes());
    stats_ = poisoned(data_.shape.batch * data_.shape.heads * data_.shape.length * 4);
    dq_ = poisoned(q_.bytes());
    dk_ = poisoned(k_.bytes());
    dv_ = poisoned(v_.bytes());
  }
  AttentionForwardArgs forward() const {
    return {q_.data(), k_.data(), v_.data(), o_.data(), stats_.as<float>(), data_.scale};
  }
  AttentionBackwardArgs backward() const {
    return {q_.data(),          k_.data(),  v_.data(),  o_.data(),  d_o_.data(),
            stats_.as<float>(), dq_.data(), dk_.data(), dv_.data(), data_.scale};
  }
  AttentionResult result() const {
    AttentionResult r;
    r.o = values_of(download<uint16_t>(o_));
    for (const float x : download<float>(stats_)) r.stats.push_back(x);
    r.dq = values_of(download<uint16_t>(dq_));
    r.dk = values_of(download<uint16_t>(dk_));
    r.dv = values_of(download<uint16_t>(dv_));
    return r;
  }

 private:
  const AttentionData& data_;
  Buffer q_, k_, v_, d_o_, o_, stats_, dq_, dk_, dv_;
};

}  // namespace strait::cuda
