// core/autograd/parameter.h: one trained tensor as this rank holds it.
#pragma once

#include <string>
#include <vector>

#include "core/ops/gemm.h"
#include "core/tensor.h"

namespace strait {

// Which ranks hold a copy of a parameter: their gradients are summed, and ZeRO-1 shards over them.
enum class Replicas : uint8_t {
  data,    // every rank of the pipeline position
  expert,  // the ranks that hold the same experts
};

// How a parameter takes part in the forward pass.
enum class Role : uint8_t { linear, expert_stack, embedding, norm };

// A parameter is a matrix view [rows, cols]; it is stored under one or more Hugging Face names,
// each a block of its rows. `gate_proj` and `up_proj` are one parameter, and so are all experts of
// a layer on this rank.
struct Part {
  std::string name;  // model.layers.3.mlp.experts.5.up_proj.weight
  int64_t row_begin = 0;
  int64_t num_rows = 0;
};

struct Parameter {
  std::string name;  // of the whole, unique in the model
  std::vector<Part> parts{};
  Shape shape;                   // [out, in], [experts, out, in], or [size]
  DType dtype = DType::f32;      // of `weight`
  DType operands = DType::f32;   // what its products multiply: `dtype`, or e4m3
  bool gradient_blocks = false;  // e4m3: scales of its output's gradient for 128x128 each, a study
  Role role = Role::linear;
  Replicas replicas = Replicas::data;
  bool decay = true;  // decoupled weight decay applies

  Tensor weight{};    // the value forward and backward use; views into a bucket of the shard layout
  Tensor gradient{};  // FP32 sum over the micro-batches of the step
  PackedWeight packed{};  // of `linear` and `expert_stack`: derived from weight once per step

  int64_t num_rows() const { return shape.rank() == 1 ? 1 : shape.numel() / num_cols(); }
  int64_t num_cols() const { return shape[shape.rank() - 1]; }
  // That it belongs to: model.layers.3.mlp.experts.
  std::string module() const { return name.substr(0, name.rfind('.')); }
};

}  // namespace strait
