// data/checkpoint/reader.h: reads any range of any tensor of a published checkpoint, whatever
// layout wrote it.
//
// Nothing is handed out unchecked: the first time a read touches a file its structure is compared
// with the manifest, and the first time it touches an entry the whole entry is read and its
// checksum compared. Memory use is bounded whatever the sizes. One thread at a time per Reader; any
// number of Readers.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/checkpoint/manifest.h"

namespace strait::checkpoint {

class Reader {
 public:
  // Reads and checks the manifest: checksum, version, coverage, files present with the right size.
  // Throws DataError naming the file.
  explicit Reader(const std::string& folder);
  ~Reader();
  Reader(Reader&&) noexcept;
  Reader& operator=(Reader&&) noexcept;

  const std::string& folder() const;
  const Manifest& manifest() const;
  bool has(const std::string& name, const std::string& kind) const;
  DType dtype(const std::string& name, const std::string& kind) const;  // REQUIRES: has()

  // Elements [offset, offset + out.size()) of the flattened tensor. f32 also reads values stored as
  // bf16, exactly; any other difference of dtypes is a DataError, and so are an absent tensor or
  // kind, a range outside of it, and a damaged file (the message names file and tensor). After an
  // error `out` holds anything.
  void read(const std::string& name, const std::string& kind, int64_t offset, std::span<float> out);
  void read(const std::string& name, const std::string& kind, int64_t offset,
            std::span<bfloat16> out);
  void read(const std::string& name, const std::string& kind, int64_t offset,
            std::span<int64_t> out);
  // The same for any dtype, which must be the stored one.
  void read(const std::string& name, const std::string& kind, int64_t offset, int64_t count,
            DType dtype, void* out);

  // Reads everything and returns one line for each damaged file or entry; empty: all good.
  std::vector<std::string> verify_all();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Reader(folder).verify_all(); a folder that does not open is one line too.
std::vector<std::string> verify_all(const std::string& folder);

}  // namespace strait::checkpoint
