#include "launch/view/output_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/errors.h"
#include "data/hdf5/durable.h"

namespace strait {

int64_t write_output_file(const std::string& path,
                          const std::function<void(std::ostream&)>& write) {
  const std::string temporary = temporary_name(path);
  try {
    std::ofstream file(temporary, std::ios::binary);
    if (!file)
      throw DataError(fmt::format("{}: cannot be written: {}", path, std::strerror(errno)));
    write(file);
    const auto size = static_cast<int64_t>(file.tellp());
    file.close();
    if (!file)
      throw DataError(
          fmt::format("{}: cannot be written to its end: {}", path, std::strerror(errno)));
    sync_file(temporary);
    publish(temporary, path);
    return size;
  } catch (...) {
    discard(temporary);
    throw;
  }
}

}  // namespace strait
