#include "launch/commands/verify_tensors.h"

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>

namespace strait {
namespace {

uint64_t hash_bytes(const std::byte* bytes, size_t size) {
  uint64_t hash = 0x9e3779b97f4a7c15u ^ size;
  while (size > 0) {
    const size_t count = std::min<size_t>(size, 8);
    uint64_t word = 0;
    std::memcpy(&word, bytes, count);
    hash = std::rotl((hash ^ word) * 0xff51afd7ed558ccdu, 31);
    bytes += count;
    size -= count;
  }
  return hash ^ (hash >> 32);
}

std::span<const float> floats_of(const StatePiece& piece) {
  return {reinterpret_cast<const float*>(piece.values), static_cast<size_t>(piece.count)};
}

std::string layer_of(const std::string& name, int64_t num_hidden_layers) {
  constexpr std::string_view prefix = "model.layers.";
  if (!name.starts_with(prefix)) return "no layer";
  int64_t layer = 0;
  std::from_chars(name.data() + prefix.size(), name.data() + name.size(), layer);
  return layer == num_hidden_layers ? "MTP module" : fmt::format("layer {}", layer);
}

}  // namespace

uint64_t hash_of(const Tensor& tensor) {
  return hash_bytes(tensor.raw(), static_cast<size_t>(tensor.bytes()));
}

uint64_t hash_of(const StatePiece& piece) {
  return hash_bytes(piece.values, static_cast<size_t>(piece.count) * size_of(piece.dtype));
}

WholeTensors::WholeTensors(std::span<const StatePiece> pieces) {
  for (const StatePiece& piece : pieces)
    tensors_[piece.name].resize(static_cast<size_t>(piece.count));
}

std::vector<StatePiece> WholeTensors::pieces(StateKind kind) {
  std::vector<StatePiece> pieces;
  for (auto& [name, values] : tensors_)
    pieces.push_back({.name = name,
                      .kind = kind,
                      .offset = 0,
                      .count = static_cast<int64_t>(values.size()),
                      .dtype = DType::f32,
                      .values = std::as_writable_bytes(std::span(values)).data()});
  return pieces;
}

void WholeTensors::copy_from(std::span<const StatePiece> pieces) {
  for (const StatePiece& piece : pieces) {
    const auto values = floats_of(piece);
    tensors_.at(piece.name).assign(values.begin(), values.end());
  }
}

std::string TensorPlace::of(const std::string& name, int64_t element) const {
  return fmt::format("{} ({}, rank {}, step {})", name, layer_of(name, num_hidden_layers),
                     holders->holder_of(name, StateKind::master, element), step);
}

Distance distance(std::span<const float> got, std::span<const float> wanted,
                  std::span<const float> before) {
  Distance result;
  double error = 0, norm = 0, worst = -1;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double base = before.empty() ? 0 : before[i];
    const double difference = std::fabs(static_cast<double>(got[i]) - wanted[i]),
                 value = wanted[i] - base;
    if (std::isnan(difference) || difference > worst) {
      worst = difference;
      result.worst_element = static_cast<int64_t>(i);
    }
    error += difference * difference;
    norm += value * value;
  }
  result.relative = error == 0 ? 0 : std::sqrt(error / norm);
  return result;
}

}  // namespace strait
