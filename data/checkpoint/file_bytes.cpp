#include "data/checkpoint/file_bytes.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <system_error>
#include <vector>

#include "core/errors.h"

namespace strait::checkpoint {
namespace {

constexpr int64_t kBufferBytes = int64_t{1} << 20;

std::ifstream open(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(fmt::format("{}: cannot be opened: {}", path, std::strerror(errno)));
  return file;
}

}  // namespace

int64_t file_bytes(const std::string& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  if (error == std::errc::no_such_file_or_directory)
    throw DataError(fmt::format("{}: is missing", path));
  if (error) throw DataError(fmt::format("{}: {}", path, error.message()));
  return static_cast<int64_t>(bytes);
}

std::string read_text(const std::string& path) {
  std::string text(static_cast<size_t>(file_bytes(path)), '\0');
  std::ifstream file = open(path);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.gcount() != static_cast<std::streamsize>(text.size()))
    throw DataError(fmt::format("{}: cannot be read", path));
  return text;
}

uint64_t checksum_outside(const std::string& path, std::span<const Region> regions) {
  const int64_t size = file_bytes(path);
  std::ifstream file = open(path);
  std::vector<char> buffer(static_cast<size_t>(kBufferBytes));
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       XXH3_freeState);
  XXH3_64bits_reset(state.get());
  const auto add = [&](int64_t begin, int64_t end) {
    file.seekg(begin);
    while (begin < end) {
      const int64_t bytes = std::min(end - begin, kBufferBytes);
      if (!file.read(buffer.data(), bytes))
        throw DataError(fmt::format("{}: cannot be read at byte {}", path, begin));
      XXH3_64bits_update(state.get(), buffer.data(), static_cast<size_t>(bytes));
      begin += bytes;
    }
  };
  int64_t at = 0;
  for (const Region& region : regions) {
    add(at, region.offset);
    at = region.offset + region.bytes;
  }
  add(at, size);
  return XXH3_64bits_digest(state.get());
}

}  // namespace strait::checkpoint
