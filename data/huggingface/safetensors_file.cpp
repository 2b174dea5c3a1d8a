#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/errors.h"
#include "data/huggingface/safetensors.h"

namespace strait::huggingface {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kBufferElements = 1 << 16;

// Bytes of an element of the format's dtypes whose elements are whole bytes; 0: unknown.
int64_t element_bytes(const std::string& dtype) {
  static constexpr std::array<std::pair<const char*, int64_t>, 15> kSizes = {{{"BOOL", 1},
                                                                              {"U8", 1},
                                                                              {"I8", 1},
                                                                              {"F8_E5M2", 1},
                                                                              {"F8_E4M3", 1},
                                                                              {"F8_E8M0", 1},
                                                                              {"I16", 2},
                                                                              {"U16", 2},
                                                                              {"F16", 2},
                                                                              {"BF16", 2},
                                                                              {"I32", 4},
                                                                              {"U32", 4},
                                                                              {"F32", 4},
                                                                              {"F64", 8},
                                                                              {"I64", 8}}};
  for (const auto& [name, bytes] : kSizes)
    if (dtype == name) return bytes;
  return dtype == "U64" ? 8 : 0;
}

// Elements times bytes, or -1 when a size is negative or the product does not fit.
int64_t bytes_of_shape(const std::vector<int64_t>& shape, int64_t bytes) {
  for (const int64_t size : shape) {
    if (size < 0) return -1;
    if (__builtin_mul_overflow(bytes, size, &bytes)) return -1;
  }
  return bytes;
}

float half_to_float(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu, mantissa = bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 0x1fu ? 0xffu : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

void read_at(int file, const std::string& path, int64_t offset, void* to, size_t count) {
  char* out = static_cast<char*>(to);
  while (count > 0) {
    const ssize_t got = ::pread(file, out, count, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw DataError(fmt::format("{}: cannot be read: {}", path, std::strerror(errno)));
    if (got == 0) throw DataError(fmt::format("{}: is cut short at byte {}", path, offset));
    out += got;
    offset += got;
    count -= static_cast<size_t>(got);
  }
}

StoredTensor parse_tensor(const std::string& path, const std::string& name, const Json& json,
                          int64_t values_begin) {
  StoredTensor tensor;
  tensor.name = name;
  int64_t begin = 0, end = 0;
  try {
    tensor.dtype = json.at("dtype").get<std::string>();
    tensor.shape = json.at("shape").get<std::vector<int64_t>>();
    const Json& offsets = json.at("data_offsets");
    if (offsets.size() != 2) throw std::invalid_argument("data_offsets are not two numbers");
    begin = offsets[0].get<int64_t>();
    end = offsets[1].get<int64_t>();
  } catch (const std::exception& error) {
    throw DataError(fmt::format("{}: tensor {}: bad header: {}", path, name, error.what()));
  }
  const int64_t size = element_bytes(tensor.dtype);
  if (size == 0)
    throw DataError(fmt::format("{}: tensor {}: unknown dtype '{}'", path, name, tensor.dtype));
  tensor.begin = values_begin + begin;
  tensor.bytes = bytes_of_shape(tensor.shape, size);
  if (begin < 0 || end < begin || tensor.bytes != end - begin)
    throw DataError(
        fmt::format("{}: tensor {}: data_offsets [{}, {}] do not fit its shape {} of {}", path,
                    name, begin, end, json.at("shape").dump(), tensor.dtype));
  return tensor;
}

// Sorted by their begin the tensors must follow each other from the header's end to the file's end.
void require_filled(const std::string& path, const std::map<std::string, StoredTensor>& tensors,
                    int64_t values_begin, int64_t file_bytes) {
  std::vector<const StoredTensor*> order;
  for (const auto& [name, tensor] : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return std::pair(a->begin, a->bytes) < std::pair(b->begin, b->bytes);
  });
  int64_t at = values_begin;
  for (const StoredTensor* tensor : order) {
    if (tensor->begin != at)
      throw DataError(fmt::format(
          "{}: tensor {}: its values {} at byte {}, expected at {}", path, tensor->name,
          tensor->begin < at ? "overlap others" : "leave a hole before them", tensor->begin, at));
    at += tensor->bytes;
    if (at > file_bytes)
      throw DataError(fmt::format("{}: is cut short: tensor {} ends at byte {}, the file has {}",
                                  path, tensor->name, at, file_bytes));
  }
  if (at != file_bytes)
    throw DataError(fmt::format("{}: has {} bytes after the last tensor", path, file_bytes - at));
}

}  // namespace

int64_t StoredTensor::numel() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

SafetensorsFile::SafetensorsFile(const std::string& path)
    : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (file_ < 0)
    throw DataError(fmt::format("{}: cannot be opened: {}", path, std::strerror(errno)));
  try {
    read_header();
  } catch (...) {
    ::close(file_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() {
  if (file_ >= 0) ::close(file_);
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, -1)),
      tensors_(std::move(other.tensors_)) {}

void SafetensorsFile::read_header() {
  struct stat status {};
  if (::fstat(file_, &status) != 0 || !S_ISREG(status.st_mode))
    throw DataError(fmt::format("{}: is not a file", path_));
  const int64_t file_bytes = status.st_size;
  uint64_t length = 0;
  if (file_bytes < 8) throw DataError(fmt::format("{}: is cut short: no header", path_));
  read_at(file_, path_, 0, &length, sizeof length);
  if (length > static_cast<uint64_t>(kMaxHeaderBytes))
    throw DataError(
        fmt::format("{}: is not a safetensors file: header of {} bytes", path_, length));
  const int64_t values_begin = 8 + static_cast<int64_t>(length);
  if (values_begin > file_bytes)
    throw DataError(fmt::format("{}: is cut short: header of {} bytes, the file has {}", path_,
                                length, file_bytes));
  std::string text(length, '\0');
  read_at(file_, path_, 8, text.data(), text.size());
  const Json header = Json::parse(text, nullptr, false);
  if (!header.is_object())
    throw DataError(fmt::format("{}: is not a safetensors file: its header is not JSON", path_));
  for (const auto& [name, json] : header.items())
    if (name != "__metadata__")
      tensors_.emplace(name, parse_tensor(path_, name, json, values_begin));
  require_filled(path_, tensors_, values_begin, file_bytes);
}

const StoredTensor& SafetensorsFile::tensor(const std::string& name) const {
  const auto at = tensors_.find(name);
  if (at == tensors_.end()) throw DataError(fmt::format("{}: has no tensor {}", path_, name));
  return at->second;
}

void SafetensorsFile::read_raw(const std::string& name, int64_t offset,
                               std::span<std::byte> out) const {
  const StoredTensor& stored = tensor(name);
  if (offset < 0 || offset > stored.bytes - static_cast<int64_t>(out.size()))
    throw DataError(fmt::format("{}: tensor {}: bytes [{}, {}) asked for, it has {}", path_, name,
                                offset, offset + static_cast<int64_t>(out.size()), stored.bytes));
  read_at(file_, path_, stored.begin + offset, out.data(), out.size());
}

void SafetensorsFile::read(const std::string& name, int64_t offset, std::span<float> out) const {
  const StoredTensor& stored = tensor(name);
  const auto count = static_cast<int64_t>(out.size());
  if (offset < 0 || offset > stored.numel() - count)
    throw DataError(fmt::format("{}: tensor {}: elements [{}, {}) asked for, it has {}", path_,
                                name, offset, offset + count, stored.numel()));
  if (stored.dtype == "F32") return read_raw(name, offset * 4, std::as_writable_bytes(out));
  const bool is_bf16 = stored.dtype == "BF16";
  if (!is_bf16 && stored.dtype != "F16")
    throw DataError(
        fmt::format("{}: tensor {}: {} values cannot be read as FP32", path_, name, stored.dtype));
  std::vector<uint16_t> buffer(std::min(out.size(), kBufferElements));
  for (size_t at = 0; at < out.size(); at += buffer.size()) {
    const size_t part = std::min(buffer.size(), out.size() - at);
    read_at(file_, path_, stored.begin + (offset + static_cast<int64_t>(at)) * 2, buffer.data(),
            part * 2);
    for (size_t index = 0; index < part; ++index)
      out[at + index] = is_bf16 ? to_float(bfloat16{buffer[index]}) : half_to_float(buffer[index]);
  }
}

}  // namespace strait::huggingface
