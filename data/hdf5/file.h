// data/hdf5/file.h: HDF5 files, datasets and attributes as objects that close themselves.
//
// Every call goes through the owner thread (data/hdf5/owner.h), so objects may be used from any
// thread; one object by one thread at a time. A failed call throws DataError with the file's name
// and HDF5's innermost reason; a full disk is said in plain words. Names are absolute HDF5 paths
// ("/train/tokens"). Files hold no times: the same calls write the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace strait::hdf5 {

// Element types, stored little-endian. bf16 and FP8 are stored as u16 and u8 (say so in an
// attribute).
enum class Type : uint8_t { u8, u16, u32, u64, i32, i64, f32, f64 };
int64_t size_of(Type type);
const char* name_of(Type type);

struct FileState;  // the open file, shared by a File and its Datasets

// How a new dataset lies in the file.
struct Layout {
  Type type = Type::u8;
  std::vector<int64_t> shape;  // row-major
  bool growing = false;        // the first dim may grow by append(); needs chunk_rows > 0
  int64_t chunk_rows = 0;      // rows of the first dim per chunk; 0: contiguous
  int deflate = 0;             // zlib level 1..9; needs chunk_rows > 0
  bool checksums = false;      // of each chunk, compared when it is read; needs chunk_rows > 0
};

class Dataset {
 public:
  const std::string& name() const { return name_; }
  Type type() const { return type_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  int64_t num_rows() const { return shape_[0]; }  // a row: one index of the first dim
  int64_t row_bytes() const;
  // Where the values begin in the file, in bytes; -1 if the dataset is chunked or nothing is
  // written yet.
  int64_t file_offset() const;

  // Rows [first_row, first_row + num_rows) from or to memory, in the dataset's type and row-major.
  // REQUIRES: the rows exist.
  void read(int64_t first_row, int64_t num_rows, void* to) const;
  void write(int64_t first_row, int64_t num_rows, const void* from);
  // Grows the first dim by num_rows. REQUIRES: made with Layout::growing.
  void append(int64_t num_rows, const void* from);

 private:
  friend class File;
  Dataset(std::shared_ptr<FileState> file, std::string name, int64_t id);
  void transfer(int64_t first_row, int64_t num_rows, void* memory, bool writing) const;

  std::shared_ptr<FileState> file_;
  std::shared_ptr<const int64_t> id_;
  std::string name_;
  Type type_ = Type::u8;
  std::vector<int64_t> shape_;
};

class File {
 public:
  // Replaces what is there. For an atomic write create a temporary name and publish() it
  // (data/hdf5/durable.h).
  static File create(const std::string& path);
  // Read only. Several processes and several Files may read one path at the same time.
  static File open(const std::string& path);

  // Writes everything out and closes; the datasets of this file become unusable. Throws when that
  // fails, for example on a full disk. A File destroyed without close() closes without reporting
  // errors.
  void close();

  const std::string& path() const;
  bool has(const std::string& name) const;
  std::vector<std::string> children(const std::string& group) const;  // sorted by name
  void create_group(const std::string& name);                         // its parent must exist
  Dataset create_dataset(const std::string& name, const Layout& layout);
  Dataset open_dataset(const std::string& name) const;

  // Scalar attributes of a group ("/") or dataset. Setting replaces. Reading a missing one, or one
  // of another kind, throws DataError. Strings are UTF-8 of any length.
  void set_attribute(const std::string& object, const std::string& name, int64_t value);
  void set_attribute(const std::string& object, const std::string& name, const std::string& value);
  bool has_attribute(const std::string& object, const std::string& name) const;
  int64_t int_attribute(const std::string& object, const std::string& name) const;
  std::string string_attribute(const std::string& object, const std::string& name) const;

 private:
  explicit File(std::shared_ptr<FileState> state) : state_(std::move(state)) {}
  std::shared_ptr<FileState> state_;
};

}  // namespace strait::hdf5
