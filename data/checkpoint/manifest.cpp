#include "data/checkpoint/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "core/errors.h"

namespace strait::checkpoint {
namespace {

struct Located {
  const Entry* entry;
  const Shard* shard;
};

using Key = std::pair<std::string, std::string>;  // name, kind

std::string label(const std::string& name, const std::string& kind) {
  return fmt::format("{} ({})", name, kind);
}

// The entries of one tensor and kind, sorted by offset, must be [0, numel) without hole or overlap.
void require_exact_cover(const std::vector<Located>& entries, int64_t numel,
                         const std::string& what, const std::string& where) {
  int64_t covered = 0;
  const Located* before = nullptr;
  for (const Located& at : entries) {
    const Entry& entry = *at.entry;
    if (entry.count <= 0 || entry.offset < 0 || entry.offset > numel - entry.count)
      throw DataError(fmt::format(
          "{}: {}: elements [{}, {}) in {} do not lie in the tensor's {} elements", where, what,
          entry.offset, entry.offset + entry.count, at.shard->file, numel));
    if (entry.offset > covered)
      throw DataError(fmt::format("{}: {}: elements [{}, {}) are in no file", where, what, covered,
                                  entry.offset));
    if (entry.offset < covered)
      throw DataError(fmt::format(
          "{}: {}: elements [{}, {}) are stored twice, in {} and in {}", where, what, entry.offset,
          std::min(covered, entry.offset + entry.count), before->shard->file, at.shard->file));
    if (before != nullptr && before->entry->dtype != entry.dtype)
      throw DataError(fmt::format("{}: {}: is {} in {} and {} in {}", where, what,
                                  name_of(before->entry->dtype), before->shard->file,
                                  name_of(entry.dtype), at.shard->file));
    covered = entry.offset + entry.count;
    before = &at;
  }
  if (covered != numel)
    throw DataError(
        fmt::format("{}: {}: elements [{}, {}) are in no file", where, what, covered, numel));
}

}  // namespace

std::string dataset_of(const Entry& entry) {
  return fmt::format("/{}.{}", entry.kind, name_of(entry.dtype));
}

int64_t TensorInfo::numel() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

void require_complete(const Manifest& manifest, const std::string& where) {
  std::map<Key, std::vector<Located>> found;
  for (const TensorInfo& tensor : manifest.model.tensors)
    for (const std::string& kind : tensor.kinds)
      if (!found.try_emplace({tensor.name, kind}).second)
        throw DataError(fmt::format("{}: {} is listed twice", where, label(tensor.name, kind)));
  for (const Shard& shard : manifest.shards) {
    for (const Entry& entry : shard.entries) {
      const auto at = found.find({entry.name, entry.kind});
      if (at == found.end())
        throw DataError(fmt::format("{}: {} holds {}, which the model does not have", where,
                                    shard.file, label(entry.name, entry.kind)));
      at->second.push_back({&entry, &shard});
    }
  }
  for (const TensorInfo& tensor : manifest.model.tensors) {
    for (const std::string& kind : tensor.kinds) {
      std::vector<Located>& entries = found.at({tensor.name, kind});
      std::sort(entries.begin(), entries.end(), [](const Located& a, const Located& b) {
        return std::tie(a.entry->offset, a.entry->count) <
               std::tie(b.entry->offset, b.entry->count);
      });
      require_exact_cover(entries, tensor.numel(), label(tensor.name, kind), where);
    }
  }
}

}  // namespace strait::checkpoint
