// data/huggingface/safetensors.h: files of the safetensors format: an 8-byte header length, a JSON
// header {name: {dtype, shape, data_offsets}}, then the values, little-endian, without gaps.
// Source: https://github.com/huggingface/safetensors, section "Format".
// Errors are DataErrors that name the file and the tensor. One thread at a time per object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace strait::huggingface {

struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
  DType dtype = DType::f32;  // f32, bf16, i32, i64, u16 or u8
  bool e4m3 = false;         // the u8 are codes of E4M3: the format's F8_E4M3
  int64_t numel() const;
  int64_t bytes() const { return numel() * static_cast<int64_t>(size_of(dtype)); }
};

// Writes one file whose tensors are known from the start, so the header is exact and values go
// straight to their place; nothing is held in memory.
class SafetensorsWriter {
 public:
  // Writes the header. REQUIRES: names differ. `metadata` becomes the header's __metadata__.
  SafetensorsWriter(const std::string& path, const std::vector<TensorSpec>& tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // The next bytes of a tensor, which fill it from its first element on. Tensors may take turns.
  // REQUIRES: the tensor was announced and has room.
  void append(const std::string& name, std::span<const std::byte> bytes);

  // Syncs and closes. Throws DataError naming the first tensor that is not complete.
  void finish();

 private:
  struct Slot {
    int64_t begin = 0, end = 0;  // in the file
    int64_t next = 0;            // where append goes on
  };
  void write(int64_t offset, const void* bytes, size_t count);

  std::string path_;
  int file_ = -1;
  std::map<std::string, Slot> slots_;
};

// A tensor of a file. dtype is the format's word: "F32", "BF16", "F8_E4M3", ...
struct StoredTensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  int64_t begin = 0, bytes = 0;  // in the file
  int64_t numel() const;
};

class SafetensorsFile {
 public:
  // Reads and checks the header: its length, its JSON, that each tensor's range has the size of its
  // shape, and that the ranges fill the file exactly, without overlap or hole.
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&& other) noexcept;
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  const StoredTensor& tensor(const std::string& name) const;

  // Elements [offset, offset + out.size()) of the flattened tensor as FP32. F32, BF16 and F16,
  // exactly; another dtype is an error. Memory use is bounded.
  void read(const std::string& name, int64_t offset, std::span<float> out) const;
  // Bytes [offset, offset + out.size()) of the tensor, as stored.
  void read_raw(const std::string& name, int64_t offset, std::span<std::byte> out) const;

 private:
  void read_header();

  std::string path_;
  int file_ = -1;
  std::map<std::string, StoredTensor> tensors_;
};

}  // namespace strait::huggingface
