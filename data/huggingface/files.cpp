#include "data/huggingface/files.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "core/errors.h"
#include "data/hdf5/durable.h"

namespace strait::huggingface {

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(fmt::format("{}: cannot be opened: {}", path, std::strerror(errno)));
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (file.bad()) throw DataError(fmt::format("{}: cannot be read", path));
  return text;
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file)
    throw DataError(fmt::format("{}: cannot be written ({} bytes, {} free)", path, text.size(),
                                free_disk_bytes(path)));
  sync_file(path);
}

}  // namespace strait::huggingface
