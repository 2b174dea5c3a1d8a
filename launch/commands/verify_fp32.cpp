#include "launch/commands/verify_fp32.h"

#include <cmath>
#include <cstring>

namespace strait {
namespace {

constexpr StateKind kMaster[] = {StateKind::master};
constexpr StateKind kGradient[] = {StateKind::gradient};

EngineSettings in_fp32(EngineSettings settings) {
  settings.formats = DType::f32;
  settings.combine_wire = DType::f32;
  settings.recompute.compact = settings.fp8_dispatch = settings.fp8_sums = false;
  return settings;
}

}  // namespace

Fp32Gradients::Fp32Gradients(const EngineSettings& one_rank)
    : engine_(std::make_unique<Engine>(in_fp32(one_rank), Mesh(1, 1, 1), Rank{0}, nullptr,
                                       Device::cpu)) {
  engine_->initialise(0);
  masters_ = gradients_ = WholeTensors(pieces_of(engine_->buckets(), kMaster));
}

void Fp32Gradients::run(Engine& from, int64_t step, const std::vector<int32_t>& windows) {
  masters_.copy_from(pieces_of(from.buckets(), kMaster));
  for (const StatePiece& piece : pieces_of(engine_->buckets(), kMaster))
    std::memcpy(piece.values, masters_.of(piece.name).data() + piece.offset,
                static_cast<size_t>(piece.count) * sizeof(float));
  const auto biases = bias_pieces(from.model(), from.selection_bias());
  const auto mine = bias_pieces(engine_->model(), engine_->selection_bias());
  for (size_t i = 0; i < mine.size(); ++i)
    std::memcpy(mine[i].values, biases[i].values,
                static_cast<size_t>(mine[i].count) * sizeof(float));
  engine_->set_committed_steps(step);
  engine_->load_weights();
  engine_->run_step(windows, 0);
  gradients_.copy_from(pieces_of(engine_->buckets(), kGradient));
  engine_->settle(0);
}

double Fp32Gradients::distance_ratio(const WholeTensors& layout,
                                     std::span<const StatePiece> reference) const {
  double of_layout = 0, of_reference = 0;
  for (const StatePiece& piece : reference) {
    const std::span<const float> exact = gradients_.of(piece.name), got = layout.of(piece.name);
    const auto* one_rank = reinterpret_cast<const float*>(piece.values);
    for (size_t i = 0; i < exact.size(); ++i) {
      of_layout += std::pow(double{got[i]} - double{exact[i]}, 2);
      of_reference += std::pow(double{one_rank[i]} - double{exact[i]}, 2);
    }
  }
  return std::sqrt(of_layout / of_reference);
}

}  // namespace strait
