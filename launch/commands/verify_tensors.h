// launch/commands/verify_tensors.h: tensors of two layouts side by side, by Hugging Face name.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "launch/commands/verify_report.h"
#include "parallel/shard/layout.h"

namespace strait {

// Of the bytes. For telling equal bits from others, not for strangers. REQUIRES: contiguous.
uint64_t hash_of(const Tensor& tensor);
uint64_t hash_of(const StatePiece& piece);

// FP32 copies of whole tensors, as the target of a reshard.
class WholeTensors {
 public:
  WholeTensors() = default;
  // Tensors of the pieces' names. REQUIRES: each piece is a whole tensor: those of a reference on
  // one rank.
  explicit WholeTensors(std::span<const StatePiece> pieces);

  std::vector<StatePiece> pieces(StateKind kind);
  void copy_from(std::span<const StatePiece> pieces);
  std::span<const float> of(const std::string& name) const { return tensors_.at(name); }

 private:
  std::map<std::string, std::vector<float>> tensors_;
};

// Where a value is, for the one who looks for the error.
struct TensorPlace {
  const Layout* holders;  // of masters
  int64_t num_hidden_layers, step;
  std::string of(const std::string& name,
                 int64_t element) const;  // "<tensor> (layer 3, rank 2, step 1)"
};

// || (got - before) - (wanted - before) || / || wanted - before ||, in FP64; `before` may be empty.
// Both zero: 0.
struct Distance {
  double relative = 0;
  int64_t worst_element = 0;
};
Distance distance(std::span<const float> got, std::span<const float> wanted,
                  std::span<const float> before);

}  // namespace strait
