// data/checkpoint/shard.h: one rank writes its part of a checkpoint.
#pragma once

#include <span>
#include <string>

#include "data/checkpoint/manifest.h"

namespace strait::checkpoint {

// Elements [offset, offset + count) of the flattened tensor `name`, in memory.
struct Piece {
  std::string name;
  std::string kind = kMaster;
  int64_t offset = 0, count = 0;
  DType dtype = DType::f32;
  const void* values = nullptr;
};

// Long pieces become several entries of at most this size, which bounds what a reader must check to
// take a part.
inline constexpr int64_t kMaxEntryBytes = int64_t{64} << 20;

// Writes the pieces to `folder`/shard-<rank>.h5, one dataset per kind and dtype, and syncs the
// file. Empty pieces are left out; the order does not matter. The folder must exist (begin(),
// data/checkpoint/folder.h). Copies nothing: memory use does not depend on the sizes. Threads may
// write shards of one folder at the same time. Throws DataError: too little space (checked first:
// bytes needed and free), or a failed write. What it left is in `folder` only: see discard().
Shard write_shard(const std::string& folder, int rank, std::span<const Piece> pieces);

}  // namespace strait::checkpoint
