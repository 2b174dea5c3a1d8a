// data/hdf5/read_file.h: a whole file as text or bytes.
#pragma once

#include <string>

namespace strait {

// All bytes of a file. Errors: DataError with its name and the system's reason, for a folder too.
std::string read_file(const std::string& path);

}  // namespace strait
