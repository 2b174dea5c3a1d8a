#include "data/checkpoint/reader.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "core/errors.h"
#include "data/checkpoint/file_bytes.h"
#include "data/checkpoint/hdf5_type.h"
#include "data/hdf5/file.h"

namespace strait::checkpoint {
namespace {

constexpr int64_t kBufferBytes = int64_t{4} << 20;
constexpr int64_t kAheadBytes = int64_t{256} << 10;

// A shard that is being read: nothing is open until it is needed.
struct OpenShard {
  std::optional<hdf5::File> file;
  std::map<std::string, hdf5::Dataset> datasets;
  std::vector<bool> verified;  // by entry
};

struct Place {
  size_t shard = 0, entry = 0;
};

// The values last read ahead from a dataset of one name, in one of the shards.
struct Ahead {
  size_t shard = 0;
  int64_t start = 0, count = 0;  // elements of the dataset
  std::vector<std::byte> values;
};

}  // namespace

struct Reader::State {
  std::string folder;
  Manifest manifest;
  std::map<std::pair<std::string, std::string>, std::vector<Place>> places;  // sorted by offset
  std::vector<OpenShard> shards;
  std::vector<std::byte> buffer;
  std::map<std::string, Ahead> ahead;  // by dataset

  std::string path_of(const Shard& shard) const { return folder + "/" + shard.file; }
  const Entry& entry_at(Place place) const {
    return manifest.shards[place.shard].entries[place.entry];
  }
  hdf5::Dataset& dataset_for(Place place);
  void fetch(Place place, int64_t begin, int64_t count, std::byte* out);
  void read_entry(Place place, int64_t begin, int64_t end, std::byte* out);
};

Reader::Reader(const std::string& folder) : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.folder = folder;
  const std::string path = folder + "/manifest.json";
  state.manifest = from_json(read_text(path), path);
  require_complete(state.manifest, folder);
  state.shards.resize(state.manifest.shards.size());
  for (size_t index = 0; index < state.shards.size(); ++index) {
    const Shard& shard = state.manifest.shards[index];
    if (shard.file.empty() || shard.file.find('/') != std::string::npos)
      throw DataError(fmt::format("{}: '{}' is not a file of this folder", path, shard.file));
    const int64_t bytes = file_bytes(state.path_of(shard));
    if (bytes != shard.bytes)
      throw DataError(fmt::format("{}: {}: it has {} of {} bytes", state.path_of(shard),
                                  bytes < shard.bytes ? "is cut short" : "is too long", bytes,
                                  shard.bytes));
    state.shards[index].verified.resize(shard.entries.size());
    for (size_t entry = 0; entry < shard.entries.size(); ++entry)
      state.places[{shard.entries[entry].name, shard.entries[entry].kind}].push_back(
          {index, entry});
  }
  for (auto& [key, places] : state.places)
    std::sort(places.begin(), places.end(), [&](Place a, Place b) {
      return state.entry_at(a).offset < state.entry_at(b).offset;
    });
}

Reader::~Reader() = default;
Reader::Reader(Reader&&) noexcept = default;
Reader& Reader::operator=(Reader&&) noexcept = default;

const std::string& Reader::folder() const { return state_->folder; }
const Manifest& Reader::manifest() const { return state_->manifest; }

bool Reader::has(const std::string& name, const std::string& kind) const {
  return state_->places.contains({name, kind});
}

DType Reader::dtype(const std::string& name, const std::string& kind) const {
  return state_->entry_at(state_->places.at({name, kind}).front()).dtype;
}

// Opens the file and the dataset at first use, after comparing everything in the file that is not a
// value.
hdf5::Dataset& Reader::State::dataset_for(Place place) {
  const Shard& shard = manifest.shards[place.shard];
  const Entry& entry = entry_at(place);
  OpenShard& open = shards[place.shard];
  const std::string path = path_of(shard);
  if (!open.file) {
    int64_t end = 0;
    for (const Region& region : shard.values) {
      if (region.offset < end || region.bytes < 0 || region.offset > shard.bytes - region.bytes)
        throw DataError(fmt::format("{}: the manifest's regions do not fit the file", path));
      end = region.offset + region.bytes;
    }
    if (checksum_outside(path, shard.values) != shard.structure_checksum)
      throw DataError(fmt::format("{}: checksum differs: the file's structure is damaged", path));
    open.file = hdf5::File::open(path);
  }
  const std::string name = dataset_of(entry);
  auto at = open.datasets.find(name);
  if (at == open.datasets.end())
    at = open.datasets.emplace(name, open.file->open_dataset(name)).first;
  hdf5::Dataset& dataset = at->second;
  if (dataset.type() != hdf5_type(entry.dtype) || entry.start < 0 ||
      entry.start > dataset.num_rows() - entry.count)
    throw DataError(
        fmt::format("{}: dataset {} does not hold {} ({})", path, name, entry.name, entry.kind));
  return dataset;
}

// Elements [begin, begin + count) of an entry, unchecked. Small entries mostly follow each other in
// their dataset, and a call of HDF5 costs some 100 us: so a small read takes along what comes after
// it.
void Reader::State::fetch(Place place, int64_t begin, int64_t count, std::byte* out) {
  hdf5::Dataset& dataset = dataset_for(place);
  const int64_t start = entry_at(place).start + begin, element_bytes = dataset.row_bytes();
  if (count * element_bytes > kAheadBytes / 4) return dataset.read(start, count, out);
  Ahead& block = ahead[dataset.name()];
  if (block.shard != place.shard || start < block.start ||
      start + count > block.start + block.count) {
    block.count = 0;  // should the read fail
    const int64_t more = std::min(kAheadBytes / element_bytes, dataset.num_rows() - start);
    block.values.resize(static_cast<size_t>(more * element_bytes));
    dataset.read(start, more, block.values.data());
    block.shard = place.shard;
    block.start = start;
    block.count = more;
  }
  std::memcpy(out, block.values.data() + (start - block.start) * element_bytes,
              static_cast<size_t>(count * element_bytes));
}

// Elements [begin, end) of an entry. An entry not seen before is read whole, in buffers, to compare
// its checksum.
void Reader::State::read_entry(Place place, int64_t begin, int64_t end, std::byte* out) {
  const Entry& entry = entry_at(place);
  const auto element_bytes = static_cast<int64_t>(size_of(entry.dtype));
  auto verified = shards[place.shard].verified.begin() + static_cast<int64_t>(place.entry);
  if (*verified) {
    if (begin < end) fetch(place, begin, end - begin, out);
    return;
  }
  buffer.resize(static_cast<size_t>(kBufferBytes));
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash(XXH3_createState(),
                                                                      XXH3_freeState);
  XXH3_64bits_reset(hash.get());
  const int64_t most = kBufferBytes / element_bytes;
  for (int64_t at = 0; at < entry.count; at += most) {
    const int64_t count = std::min(most, entry.count - at);
    fetch(place, at, count, buffer.data());
    XXH3_64bits_update(hash.get(), buffer.data(), static_cast<size_t>(count * element_bytes));
    const int64_t first = std::max(begin, at), last = std::min(end, at + count);
    if (first < last)
      std::memcpy(out + (first - begin) * element_bytes,
                  buffer.data() + (first - at) * element_bytes,
                  static_cast<size_t>((last - first) * element_bytes));
  }
  if (XXH3_64bits_digest(hash.get()) != entry.checksum)
    throw DataError(fmt::format("{}: checksum differs: {} ({}), elements [{}, {}) are damaged",
                                path_of(manifest.shards[place.shard]), entry.name, entry.kind,
                                entry.offset, entry.offset + entry.count));
  *verified = true;
}

void Reader::read(const std::string& name, const std::string& kind, int64_t offset, int64_t count,
                  DType dtype, void* out) {
  const auto found = state_->places.find({name, kind});
  if (found == state_->places.end())
    throw DataError(fmt::format("{}: holds no {} of {}", folder(), kind, name));
  const std::vector<Place>& places = found->second;
  const Entry& last = state_->entry_at(places.back());
  const int64_t numel = last.offset + last.count;
  if (offset < 0 || count < 0 || offset > numel - count)
    throw DataError(fmt::format("{}: {} ({}): elements [{}, {}) asked for, it has {}", folder(),
                                name, kind, offset, offset + count, numel));
  if (last.dtype != dtype)
    throw DataError(fmt::format("{}: {} ({}): is stored as {}, asked for as {}", folder(), name,
                                kind, name_of(last.dtype), name_of(dtype)));
  auto* bytes = static_cast<std::byte*>(out);
  // The last entry that begins at or before `offset`, and those after it.
  auto place = std::upper_bound(
      places.begin(), places.end(), offset,
      [&](int64_t at, Place candidate) { return at < state_->entry_at(candidate).offset; });
  if (place != places.begin()) --place;
  for (; place != places.end() && state_->entry_at(*place).offset < offset + count; ++place) {
    const Entry& entry = state_->entry_at(*place);
    const int64_t begin = std::max(offset, entry.offset);
    const int64_t end = std::min(offset + count, entry.offset + entry.count);
    state_->read_entry(*place, begin - entry.offset, end - entry.offset,
                       bytes + (begin - offset) * static_cast<int64_t>(size_of(dtype)));
  }
}

void Reader::read(const std::string& name, const std::string& kind, int64_t offset,
                  std::span<float> out) {
  if (!has(name, kind) || dtype(name, kind) != DType::bf16) {
    read(name, kind, offset, static_cast<int64_t>(out.size()), DType::f32, out.data());
    return;
  }
  // The bits go to the upper half of `out` and are widened from the front: element i is read before
  // it is overwritten, since its bits lie behind the float that takes its place.
  auto* bits = reinterpret_cast<std::byte*>(out.data()) + out.size() * 2;
  read(name, kind, offset, static_cast<int64_t>(out.size()), DType::bf16, bits);
  for (size_t index = 0; index < out.size(); ++index) {
    bfloat16 value;
    std::memcpy(&value, bits + index * 2, 2);
    out[index] = to_float(value);
  }
}

void Reader::read(const std::string& name, const std::string& kind, int64_t offset,
                  std::span<bfloat16> out) {
  read(name, kind, offset, static_cast<int64_t>(out.size()), DType::bf16, out.data());
}

void Reader::read(const std::string& name, const std::string& kind, int64_t offset,
                  std::span<int64_t> out) {
  read(name, kind, offset, static_cast<int64_t>(out.size()), DType::i64, out.data());
}

std::vector<std::string> Reader::verify_all() {
  std::vector<std::string> problems;
  for (size_t shard = 0; shard < state_->shards.size(); ++shard) {
    for (size_t entry = 0; entry < state_->manifest.shards[shard].entries.size(); ++entry) {
      try {
        state_->read_entry({shard, entry}, 0, 0, nullptr);
      } catch (const DataError& error) {
        // A file that does not open says the same for each of its entries.
        if (problems.empty() || problems.back() != error.what()) problems.push_back(error.what());
      }
    }
  }
  return problems;
}

std::vector<std::string> verify_all(const std::string& folder) {
  try {
    return Reader(folder).verify_all();
  } catch (const DataError& error) {
    return {error.what()};
  }
}

}  // namespace strait::checkpoint
