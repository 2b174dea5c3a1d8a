#include "data/hdf5/read_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "core/errors.h"

namespace strait {

std::string read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  if (!file) throw DataError(fmt::format("{}: cannot be opened: {}", path, std::strerror(errno)));
  std::string text;
  std::string block(size_t{1} << 18, '\0');
  errno = 0;
  for (size_t size; (size = std::fread(block.data(), 1, block.size(), file.get())) > 0;)
    text.append(block, 0, size);
  if (std::ferror(file.get()) != 0)
    throw DataError(errno == EISDIR
                        ? fmt::format("{}: is a folder, not a file", path)
                        : fmt::format("{}: cannot be read: {}", path, std::strerror(errno)));
  return text;
}

}  // namespace strait
