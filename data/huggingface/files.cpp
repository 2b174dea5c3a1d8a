#include "data/huggingface/files.h"

#include <fmt/format.h>

#include <fstream>

#include "core/errors.h"
#include "data/hdf5/durable.h"

namespace strait::huggingface {

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
