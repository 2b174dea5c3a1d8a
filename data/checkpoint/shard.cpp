#include "data/checkpoint/shard.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <map>

#include "core/errors.h"
#include "data/checkpoint/file_bytes.h"
#include "data/checkpoint/hdf5_type.h"
#include "data/hdf5/durable.h"
#include "data/hdf5/file.h"

namespace strait::checkpoint {
namespace {

constexpr int64_t kSlackBytes = int64_t{1} << 20;  // for what HDF5 and the file system add

void check(const Piece& piece) {
  STRAIT_CHECK(!piece.name.empty() && piece.offset >= 0 && piece.count >= 0 &&
                   (piece.count == 0 || piece.values != nullptr),
               fmt::format("{} ({}): elements [{}, +{})", piece.name, piece.kind, piece.offset,
                           piece.count));
  const bool word =
      !piece.kind.empty() && std::all_of(piece.kind.begin(), piece.kind.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
      });
  STRAIT_CHECK(word, "'" + piece.kind + "' is not a kind");
}

// A piece's part that becomes one entry, and where its values are now.
struct Planned {
  Entry entry;
  const std::byte* values;
};

struct Plan {
  std::vector<Planned> parts;
  std::map<std::string, hdf5::Layout> datasets;
};

// Cuts the pieces into entries and gives each its place in the dataset of its kind and dtype.
Plan plan(std::span<const Piece> pieces) {
  Plan result;
  for (const Piece& piece : pieces) {
    check(piece);
    const auto element_bytes = static_cast<int64_t>(size_of(piece.dtype));
    const int64_t most = kMaxEntryBytes / element_bytes;
    for (int64_t done = 0; done < piece.count; done += most) {
      Planned part{.entry = {.name = piece.name,
                             .kind = piece.kind,
                             .offset = piece.offset + done,
                             .count = std::min(most, piece.count - done),
                             .dtype = piece.dtype},
                   .values = static_cast<const std::byte*>(piece.values) + done * element_bytes};
      int64_t& size = result.datasets
                          .try_emplace(dataset_of(part.entry),
                                       hdf5::Layout{.type = hdf5_type(piece.dtype), .shape = {0}})
                          .first->second.shape[0];
      part.entry.start = size;
      size += part.entry.count;
      result.parts.push_back(std::move(part));
    }
  }
  return result;
}

// Writes a dataset from front to back. Small entries are gathered first: a call of HDF5 costs some
// 100 us.
class Appender {
 public:
  explicit Appender(hdf5::Dataset dataset) : dataset_(std::move(dataset)) {}

  void add(std::span<const std::byte> values) {
    if (staged_.size() + values.size() > kStageBytes) flush();
    if (values.size() > kStageBytes)
      write(values);
    else
      staged_.insert(staged_.end(), values.begin(), values.end());
  }
  void flush() {
    write(staged_);
    staged_.clear();
  }
  // REQUIRES: something was written.
  Region region() const { return {dataset_.file_offset(), written_ * dataset_.row_bytes()}; }

 private:
  static constexpr size_t kStageBytes = size_t{1} << 20;

  void write(std::span<const std::byte> values) {
    const int64_t count = static_cast<int64_t>(values.size()) / dataset_.row_bytes();
    dataset_.write(written_, count, values.data());
    written_ += count;
  }

  hdf5::Dataset dataset_;
  std::vector<std::byte> staged_;
  int64_t written_ = 0;
};

}  // namespace

Shard write_shard(const std::string& folder, int rank, std::span<const Piece> pieces) {
  int64_t total_bytes = kSlackBytes;
  for (const Piece& piece : pieces)
    total_bytes += piece.count * static_cast<int64_t>(size_of(piece.dtype));
  require_free_disk(folder, total_bytes);
  Plan planned = plan(pieces);

  Shard shard;
  shard.file = fmt::format("shard-{:05}.h5", rank);
  const std::string path = folder + "/" + shard.file;
  hdf5::File file = hdf5::File::create(path);
  std::map<std::string, Appender> appenders;
  for (const auto& [name, layout] : planned.datasets)
    appenders.emplace(name, Appender(file.create_dataset(name, layout)));
  for (Planned& part : planned.parts) {
    Entry& entry = part.entry;
    const std::span values(part.values, static_cast<size_t>(entry.count) * size_of(entry.dtype));
    appenders.at(dataset_of(entry)).add(values);
    entry.checksum = XXH3_64bits(values.data(), values.size());
    shard.entries.push_back(std::move(entry));
  }
  for (auto& [name, appender] : appenders) {
    appender.flush();
    shard.values.push_back(appender.region());
  }
  std::sort(shard.values.begin(), shard.values.end(),
            [](const Region& a, const Region& b) { return a.offset < b.offset; });
  appenders.clear();  // HDF5 wants them closed before their file
  file.close();
  sync_file(path);
  shard.bytes = file_bytes(path);
  shard.structure_checksum = checksum_outside(path, shard.values);
  return shard;
}

}  // namespace strait::checkpoint
