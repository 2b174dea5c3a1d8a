#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "data/hdf5/durable.h"
#include "data/huggingface/safetensors.h"

namespace strait::huggingface {
namespace {

using Json = nlohmann::ordered_json;

const char* format_name(const TensorSpec& tensor) {
  if (tensor.e4m3) return "F8_E4M3";
  switch (tensor.dtype) {
    case DType::f32:
      return "F32";
    case DType::bf16:
      return "BF16";
    case DType::i32:
      return "I32";
    case DType::i64:
      return "I64";
    case DType::u16:
      return "U16";
    case DType::u8:
      return "U8";
    case DType::e4m3:
      return "F8_E4M3";
  }
  throw InternalError("[safetensors] not a dtype");
}

[[noreturn]] void fail(const std::string& path, const char* doing, int error) {
  if (error == ENOSPC || error == EDQUOT)
    throw DataError(
        fmt::format("{}: the disk is full ({} bytes free)", path, free_disk_bytes(path)));
  throw DataError(fmt::format("{}: cannot {}: {}", path, doing, std::strerror(error)));
}

// The header padded with spaces so that the values begin at a multiple of 8 bytes.
std::string header_of(const std::vector<TensorSpec>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t at = 0;
  for (const TensorSpec& tensor : tensors) {
    STRAIT_CHECK(!header.contains(tensor.name), "tensor " + tensor.name + " is announced twice");
    header[tensor.name] = {{"dtype", format_name(tensor)},
                           {"shape", tensor.shape},
                           {"data_offsets", {at, at + tensor.bytes()}}};
    at += tensor.bytes();
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace

int64_t TensorSpec::numel() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

SafetensorsWriter::SafetensorsWriter(const std::string& path,
                                     const std::vector<TensorSpec>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : path_(path) {
  const std::string header = header_of(tensors, metadata);
  int64_t at = 8 + static_cast<int64_t>(header.size());
  for (const TensorSpec& tensor : tensors) {
    slots_[tensor.name] = {.begin = at, .end = at + tensor.bytes(), .next = at};
    at += tensor.bytes();
  }
  file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file_ < 0) fail(path, "be made", errno);
  try {
    const uint64_t length = header.size();  // little-endian, as all of Strait's hosts are
    write(0, &length, sizeof length);
    write(sizeof length, header.data(), header.size());
  } catch (...) {
    ::close(file_);
    throw;
  }
}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_ >= 0) ::close(file_);
}

void SafetensorsWriter::write(int64_t offset, const void* bytes, size_t count) {
  const char* from = static_cast<const char*>(bytes);
  while (count > 0) {
    const ssize_t wrote = ::pwrite(file_, from, count, offset);
    if (wrote < 0 && errno != EINTR) fail(path_, "be written", errno);
    if (wrote <= 0) continue;
    from += wrote;
    offset += wrote;
    count -= static_cast<size_t>(wrote);
  }
}

void SafetensorsWriter::append(const std::string& name, std::span<const std::byte> bytes) {
  const auto at = slots_.find(name);
  STRAIT_CHECK(at != slots_.end(), "tensor " + name + " was not announced");
  Slot& slot = at->second;
  STRAIT_CHECK(static_cast<int64_t>(bytes.size()) <= slot.end - slot.next,
               fmt::format("tensor {} has room for {} more bytes, got {}", name,
                           slot.end - slot.next, bytes.size()));
  write(slot.next, bytes.data(), bytes.size());
  slot.next += static_cast<int64_t>(bytes.size());
}

void SafetensorsWriter::finish() {
  for (const auto& [name, slot] : slots_)
    if (slot.next != slot.end)
      throw DataError(fmt::format("{}: tensor {} got {} of its {} bytes", path_, name,
                                  slot.next - slot.begin, slot.end - slot.begin));
  const int file = file_;
  if (::fsync(file) != 0) fail(path_, "be synced", errno);
  file_ = -1;
  if (::close(file) != 0) fail(path_, "be closed", errno);
}

}  // namespace strait::huggingface
