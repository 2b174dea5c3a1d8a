#include "data/corpus/utf8_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "core/errors.h"
#include "data/tokenizer/utf8.h"

namespace strait {

void Utf8File::FreeState::operator()(XXH3_state_s* state) const { XXH3_freeState(state); }

Utf8File::Utf8File(std::string path)
    : path_(std::move(path)),
      descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)),
      hash_(XXH3_createState()) {
  if (descriptor_ < 0)
    throw DataError(fmt::format("{}: cannot be opened: {}", path_, std::strerror(errno)));
  XXH3_64bits_reset(hash_.get());
}

Utf8File::~Utf8File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::string Utf8File::xxh3() const {
  return fmt::format("{:016x}", XXH3_64bits_digest(hash_.get()));
}

int64_t Utf8File::read_block(char* to) {
  while (true) {
    const ssize_t size = ::read(descriptor_, to, kBlockBytes);
    if (size >= 0) return size;
    if (errno != EINTR)
      throw DataError(
          fmt::format("{}: cannot be read at byte {}: {}", path_, offset_, std::strerror(errno)));
  }
}

bool Utf8File::read(std::string& text) {
  std::string block = std::exchange(carry_, {});
  const size_t carried = block.size();
  block.resize(carried + kBlockBytes);
  const int64_t size = read_block(block.data() + carried);
  block.resize(carried + static_cast<size_t>(size));
  const bool end = size == 0, begin = offset_ == 0;
  XXH3_64bits_update(hash_.get(), block.data() + carried, static_cast<size_t>(size));
  offset_ += size;
  if (!end) {
    const size_t unfinished = incomplete_suffix(block);
    carry_ = block.substr(block.size() - unfinished);
    block.resize(block.size() - unfinished);
  }
  if (const int64_t bad = first_invalid_utf8(block); bad >= 0)
    fail_at(block, static_cast<size_t>(bad));
  line_ += std::ranges::count(block, '\n');
  if (begin && block.starts_with("\xEF\xBB\xBF")) block.erase(0, 3);
  text += block;
  return !end;
}

void Utf8File::fail_at(const std::string& block, size_t bad) const {
  const int64_t start = offset_ - static_cast<int64_t>(carry_.size() + block.size());
  const int64_t line =
      line_ + std::count(block.begin(), block.begin() + static_cast<int64_t>(bad), '\n');
  const std::string_view mark = std::string_view(block).substr(0, start == 0 ? 2 : 0);
  const bool utf16 = mark == "\xFF\xFE" || mark == "\xFE\xFF";
  throw DataError(fmt::format("{}:{}: not UTF-8: byte 0x{:02x} at offset {}{}", path_, line,
                              static_cast<uint8_t>(block[bad]), start + static_cast<int64_t>(bad),
                              utf16 ? "; it looks like UTF-16" : ""));
}

}  // namespace strait
