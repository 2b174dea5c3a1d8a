// parallel/shard/bucket.h: ZeRO-1. Parameters are gathered into buckets; each rank of a bucket's
// replica group owns one contiguous shard of it: it alone keeps that part's FP32 master weights and
// moments and computes its update.
//
// A bucket is one flat range per kind of storage: weights in the compute dtype, FP32 gradients, and
// for the own shard master, first and second moment. Shards end on unit boundaries (blocks of 128
// rows of one parameter, or the whole of a smaller one), so no quantisation block is ever split.
// Summing copies, sharding and saving are this one mechanism. Source: Rajbhandari et al., ZeRO, SC
// 2020 (stage 1).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/context.h"
#include "core/nn/model.h"

namespace strait {

struct BucketEntry {
  Parameter* parameter = nullptr;
  int64_t begin = 0;  // first element in the bucket
};

struct Bucket {
  std::string name{};  // the same on every pipeline position that holds the bucket
  Replicas replicas = Replicas::data;
  DType dtype = DType::f32;
  // Whose tasks read its weights and add to its gradients, in order; -1: the embedding. The head
  // counts as the layer whose output it takes.
  std::vector<int> layers{};
  std::vector<BucketEntry> entries{};
  int64_t numel = 0;
  std::vector<int64_t>
      bounds{};      // [R + 1]: shard i of the replica group is [bounds[i], bounds[i + 1])
  int my_index = 0;  // this rank's place in the replica group

  Tensor weights{};                                  // [numel] dtype
  Tensor gradients{};                                // [numel] FP32
  Tensor master{}, first_moment{}, second_moment{};  // [shard size]

  int64_t shard_begin() const { return bounds[static_cast<size_t>(my_index)]; }
  int64_t shard_end() const { return bounds[static_cast<size_t>(my_index) + 1]; }
  int64_t shard_size() const { return shard_end() - shard_begin(); }
};

struct ReplicaPlace {
  int size = 1;   // ranks that hold a copy
  int index = 0;  // of this rank among them
};

// Cuts the parameters into buckets, without storage or shards: a layer's parameters in the compute
// dtype make one bucket per replica group, embedding and head have their own, and the small FP32
// ones beside BF16 (norms, router) share one.
std::vector<Bucket> group_parameters(const Model& model, const ModelPart& part = {});

struct ShardOptions {
  ReplicaPlace data = {}, expert = {};              // of buckets that one position holds alone
  std::map<std::string, ReplicaPlace> shared = {};  // of the others, by name
  ModelPart part = {};                              // that the model was built with
  DType moments = DType::f32;
  bool training = true;  // false: weights only
};

// group_parameters(), with shards and storage; points every Parameter's weight and
// gradient into its bucket. Gradients start at zero; weights, masters and moments are for the
// caller to fill.
std::vector<Bucket> build_buckets(Context& ctx, Model& model, const ShardOptions& options);

// A stretch of one Hugging Face tensor that lies in a shard.
struct ShardPiece {
  const Part* part = nullptr;
  const Parameter* parameter = nullptr;
  int64_t offset = 0;  // first element in the flattened Hugging Face tensor
  int64_t count = 0;
  int64_t shard_offset = 0;  // first element in the shard
};
// The shard of a bucket as stretches of Hugging Face tensors, in order. Any range of a bucket
// likewise.
std::vector<ShardPiece> pieces_of_shard(const Bucket& bucket);
std::vector<ShardPiece> pieces_of_range(const Bucket& bucket, int64_t begin, int64_t end);

}  // namespace strait
