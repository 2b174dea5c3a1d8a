// data/checkpoint/manifest.h: what a checkpoint holds, and where each value lies.
//
// A checkpoint is a folder `step-00001000/`: one HDF5 file ("shard") per rank that wrote, and
// manifest.json. Tensors have Hugging Face names. A tensor is stored once per kind of value,
// flattened and cut into entries in whatever way the writing layout held it; nothing in the format
// knows about ranks or layouts, so any layout reads any checkpoint. Only plain values here; no
// communication.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace strait::checkpoint {

// Kinds of value. A kind is any word of [a-z0-9_]; these are the ones Strait trains with.
inline constexpr const char* kMaster = "master";  // the weights, FP32
inline constexpr const char* kFirstMoment = "m";
inline constexpr const char* kSecondMoment = "v";
inline constexpr const char* kEma = "ema";    // running average of the weights
inline constexpr const char* kBias = "bias";  // selection bias of a router

// A run of elements of one flattened tensor, in one file.
struct Entry {
  std::string name;
  std::string kind;
  int64_t offset = 0, count = 0;  // elements of the flattened tensor
  DType dtype = DType::f32;
  int64_t start = 0;      // first element in the dataset of its kind and dtype (dataset_of)
  uint64_t checksum = 0;  // XXH3-64 of the values
  bool operator==(const Entry&) const = default;
};
std::string dataset_of(const Entry& entry);  // "/master.f32"

// Where one dataset's values lie in its file.
struct Region {
  int64_t offset = 0, bytes = 0;
  bool operator==(const Region&) const = default;
};

// One file and what is in it.
struct Shard {
  std::string file;  // name within the folder
  int64_t bytes = 0;
  std::vector<Region> values;       // sorted
  uint64_t structure_checksum = 0;  // XXH3-64 of every byte of the file that is not a value
  std::vector<Entry> entries;
  bool operator==(const Shard&) const = default;
};

// A Shard as bytes and back: what ranks send to the one that publishes. decode throws DataError.
std::string encode(const Shard& shard);
Shard decode(const std::string& bytes);

struct TensorInfo {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<std::string> kinds;  // which values of it the checkpoint holds
  int64_t numel() const;
  bool operator==(const TensorInfo&) const = default;
};

struct ModelDescription {
  std::string config_json;  // config.json as data/huggingface writes it
  std::vector<TensorInfo> tensors;
};

// Throws DataError that names the first difference: a config key, or a tensor's presence or shape.
// Kinds are not compared. `where` is the checkpoint's folder, for the message.
void require_same_model(const ModelDescription& stored, const ModelDescription& wanted,
                        const std::string& where);

inline constexpr int kFormatVersion = 1;

struct Manifest {
  int64_t step = 0;         // updates done
  int64_t next_sample = 0;  // the data cursor: index of the first sample not yet trained on
  uint64_t seed = 0;
  ModelDescription model = {};
  std::string recipe = {};                        // the resolved recipe's text
  std::map<std::string, std::string> extra = {};  // whatever else the trainer needs
  std::vector<Shard> shards = {};
};

// Proves that every (tensor, kind) of the description is covered exactly once by the entries, with
// one dtype, and that there are no others. Throws DataError that names the tensor, kind and element
// range of the first hole or overlap, and the files. Cost: a sort of the entries.
void require_complete(const Manifest& manifest, const std::string& where);

// manifest.json. Its first key is the XXH3-64 of the rest, so a changed or missing byte is noticed.
// from_json throws DataError: not a manifest, cut short, checksum differs, another format version.
std::string to_json(const Manifest& manifest);
Manifest from_json(const std::string& text, const std::string& path);

}  // namespace strait::checkpoint
