// data/corpus/utf8_file.h: the text of a file, block by block, checked to be UTF-8. One thread at a
// time. Errors are DataErrors that name the file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

struct XXH3_state_s;

namespace strait {

class Utf8File {
 public:
  static constexpr size_t kBlockBytes = size_t{1} << 18;

  explicit Utf8File(std::string path);
  ~Utf8File();
  Utf8File(const Utf8File&) = delete;
  Utf8File& operator=(const Utf8File&) = delete;

  const std::string& path() const { return path_; }

  // Appends the next block, whole code points, to `text`; false at the end of the file. A byte
  // order mark at the beginning is left out. Throws, with line and byte offset, at what is not
  // UTF-8.
  bool read(std::string& text);

  int64_t num_bytes_read() const { return offset_; }
  // Hexadecimal 64-bit XXH3 of the bytes read so far.
  std::string xxh3() const;

 private:
  struct FreeState {
    void operator()(XXH3_state_s* state) const;
  };
  int64_t read_block(char* to);
  [[noreturn]] void fail_at(const std::string& block, size_t bad) const;

  std::string path_;
  int descriptor_ = -1;
  std::unique_ptr<XXH3_state_s, FreeState> hash_;
  int64_t offset_ = 0;  // in the file, of what comes next
  int64_t line_ = 1;    // of the byte at offset_ - carry_.size()
  std::string carry_;   // the beginning of a code point
};

}  // namespace strait
