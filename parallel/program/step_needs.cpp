// parallel/program/step_needs.cpp: what each piece of work reads and adds to, as the pieces that
// come before it.
#include <algorithm>

#include "core/errors.h"
#include "parallel/program/step_work.h"

namespace strait {

void StepWork::needs(int number, std::vector<int>& out) const {
  const Piece& p = piece(number);
  if (p.microbatch < 0) return boundary_needs(p, out);
  need_earlier_sums(p, out);
  switch (p.pass) {
    case Pass::forward:
      return forward_needs(p, out);
    case Pass::input_gradient:
      return input_gradient_needs(p, out);
    case Pass::weight_gradient: {
      Piece inputs = p;
      inputs.pass = Pass::input_gradient;
      return need(inputs, out);
    }
  }
}

void StepWork::need(const Piece& piece, std::vector<int>& out) const {
  const int number = find(piece);
  STRAIT_CHECK(number >= 0, to_string(piece) + " is needed but nobody's work");
  out.push_back(number);
}

void StepWork::need_parts(Kind kind, Pass pass, int microbatch, int layer,
                          std::vector<int>& out) const {
  for (int part = 0; part < shape_.waves; ++part)
    need({.kind = kind, .pass = pass, .microbatch = microbatch, .layer = layer, .part = part}, out);
}

// The hidden state that a layer leaves: residual, shared and routed experts are added by whoever
// reads it. Layer -1 is the embedding.
void StepWork::need_output(int m, int layer, std::vector<int>& out) const {
  constexpr Pass kPass = Pass::forward;
  if (layer < 0) return need({.kind = Kind::embed, .pass = kPass, .microbatch = m}, out);
  if (stage_of(m, layer) == nullptr)
    return need({.kind = Kind::receive, .pass = kPass, .microbatch = m, .layer = layer + 1}, out);
  need({.kind = Kind::attention, .pass = kPass, .microbatch = m, .layer = layer}, out);
  if (!is_moe(layer))
    return need({.kind = Kind::mlp, .pass = kPass, .microbatch = m, .layer = layer}, out);
  if (shape_.has_shared_experts)
    need({.kind = Kind::shared, .pass = kPass, .microbatch = m, .layer = layer}, out);
  need_parts(shape_.exchanges ? Kind::combine : Kind::experts, kPass, m, layer, out);
}

// The gradient of that.
void StepWork::need_gradient(int m, int layer, std::vector<int>& out) const {
  constexpr Pass kPass = Pass::input_gradient;
  const bool under_head = layer >= shape_.num_hidden_layers - 1;
  if (under_head && head_stage(m) != nullptr) {
    need({.kind = Kind::head, .pass = kPass, .microbatch = m, .layer = layer}, out);
  } else if (stage_of(m, layer + 1) != nullptr) {
    need({.kind = Kind::attention, .pass = kPass, .microbatch = m, .layer = layer + 1}, out);
  } else {
    need({.kind = Kind::receive, .pass = kPass, .microbatch = m, .layer = layer + 1}, out);
  }
}

void StepWork::need_weights(int layer, std::vector<int>& out) const {
  if (!with_boundary_) return;
  for (int bucket = 0; bucket < static_cast<int>(buckets_.size()); ++bucket) {
    const std::vector<int>& layers = buckets_[static_cast<size_t>(bucket)].layers;
    if (std::find(layers.begin(), layers.end(), layer) != layers.end())
      need({.kind = Kind::pack_weights, .bucket = bucket}, out);
  }
}

// Sums into one gradient, or into the loss, are in the order of the micro-batches. What sums:
// weight gradients; the gains of norms and the embedding with the input gradient; the head's weight
// with its forward, which makes the gradient of the logits. The MTP module's head shares that
// weight and follows the main one.
void StepWork::need_earlier_sums(const Piece& p, std::vector<int>& out) const {
  const bool sums =
      p.pass == Pass::weight_gradient || p.kind == Kind::head ||
      (p.pass == Pass::input_gradient && (p.kind == Kind::attention || p.kind == Kind::embed));
  const auto copy_of = [&](int microbatch) { return copy_of_[static_cast<size_t>(microbatch)]; };
  if (!sums || p.microbatch == 0 || copy_of(p.microbatch - 1) != copy_of(p.microbatch)) return;
  Piece earlier = p;
  --earlier.microbatch;
  if (p.kind == Kind::head && p.pass == Pass::forward) earlier.layer = num_layers() - 1;
  need(earlier, out);
}

void StepWork::forward_needs(const Piece& p, std::vector<int>& out) const {
  const int m = p.microbatch, layer = p.layer;
  switch (p.kind) {
    case Kind::embed:
      return need_weights(-1, out);
    case Kind::attention:
      need_weights(layer, out);
      if (layer != shape_.num_hidden_layers) return need_output(m, layer - 1, out);
      // The MTP module reads what the main head's norm has written.
      return need({.kind = Kind::head, .microbatch = m, .layer = layer - 1}, out);
    case Kind::head:  // adds to the loss, which the commit of the step before has read
      if (with_boundary_) need({.kind = Kind::commit}, out);
      need_weights(layer, out);
      return need_output(m, layer, out);
    case Kind::send:
      return need_output(m, layer - 1, out);
    case Kind::experts:
      if (!shape_.exchanges) break;
      return need({.kind = Kind::dispatch, .microbatch = m, .layer = layer, .part = p.part}, out);
    case Kind::combine:
      return need({.kind = Kind::experts, .microbatch = m, .layer = layer, .part = p.part}, out);
    case Kind::receive:
      return;
    default:
      break;  // dispatch, shared, mlp
  }
  need({.kind = Kind::attention, .microbatch = m, .layer = layer}, out);
}

void StepWork::input_gradient_needs(const Piece& p, std::vector<int>& out) const {
  constexpr Pass kPass = Pass::input_gradient;
  const int m = p.microbatch, layer = p.layer;
  switch (p.kind) {
    case Kind::embed:
      return need({.kind = Kind::attention, .pass = kPass, .microbatch = m, .layer = 0}, out);
    case Kind::head:
      need({.kind = Kind::head, .microbatch = m, .layer = layer}, out);
      if (layer == shape_.num_hidden_layers - 1 && shape_.has_mtp())
        need({.kind = Kind::attention, .pass = kPass, .microbatch = m, .layer = layer + 1}, out);
      return;
    case Kind::send:
      return need_gradient(m, layer - 1, out);
    case Kind::experts:
      if (!shape_.exchanges) break;
      return need(
          {.kind = Kind::combine, .pass = kPass, .microbatch = m, .layer = layer, .part = p.part},
          out);
    case Kind::dispatch:
      return need(
          {.kind = Kind::experts, .pass = kPass, .microbatch = m, .layer = layer, .part = p.part},
          out);
    case Kind::attention:
      if (!is_moe(layer))
        return need({.kind = Kind::mlp, .pass = kPass, .microbatch = m, .layer = layer}, out);
      if (shape_.has_shared_experts)
        need({.kind = Kind::shared, .pass = kPass, .microbatch = m, .layer = layer}, out);
      return need_parts(shape_.exchanges ? Kind::dispatch : Kind::experts, kPass, m, layer, out);
    case Kind::receive:
      return;
    default:
      break;  // combine, shared, mlp
  }
  need_gradient(m, layer, out);
}

void StepWork::boundary_needs(const Piece& p, std::vector<int>& out) const {
  switch (p.kind) {
    case Kind::commit:
      return need({.kind = Kind::gradient_norm}, out);
    case Kind::update:
      return need({.kind = Kind::commit}, out);
    case Kind::gather_weights:
      return need({.kind = Kind::update, .bucket = p.bucket}, out);
    case Kind::pack_weights:
      return need({.kind = Kind::gather_weights, .bucket = p.bucket}, out);
    case Kind::reduce_gradients:
      return need_contributions(buckets_[static_cast<size_t>(p.bucket)], out);
    default:
      return;
  }
}

// The last micro-batch's: sums are in order, so that the others have come before.
void StepWork::need_contributions(const BucketShape& bucket, std::vector<int>& out) const {
  const auto num_microbatches = static_cast<int>(copy_of_.size());
  for (int m = 0; m < num_microbatches; ++m) {
    const bool last = m + 1 == num_microbatches ||
                      copy_of_[static_cast<size_t>(m)] != copy_of_[static_cast<size_t>(m) + 1];
    if (!last) continue;
    for (const int layer : bucket.layers) {
      const auto need_if_here = [&](Kind kind, Pass pass, int part) {
        const int number =
            find({.kind = kind, .pass = pass, .microbatch = m, .layer = layer, .part = part});
        if (number >= 0) out.push_back(number);
      };
      for (const Kind kind : {Kind::embed, Kind::attention, Kind::mlp, Kind::shared, Kind::head})
        for (const Pass pass : {Pass::input_gradient, Pass::weight_gradient})
          need_if_here(kind, pass, 0);
      for (int part = 0; part < shape_.waves; ++part)
        need_if_here(Kind::experts, Pass::weight_gradient, part);
    }
  }
}

}  // namespace strait
