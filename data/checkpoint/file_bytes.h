// data/checkpoint/file_bytes.h: plain reading of files, for checks that must not rely on HDF5.
// Errors are DataErrors that name the file.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "data/checkpoint/manifest.h"

namespace strait::checkpoint {

int64_t file_bytes(const std::string& path);     // its size; a missing file throws
std::string read_text(const std::string& path);  // all of it

// XXH3-64 of every byte of the file outside of the regions. REQUIRES: regions sorted, disjoint,
// within the file.
uint64_t checksum_outside(const std::string& path, std::span<const Region> regions);

}  // namespace strait::checkpoint
