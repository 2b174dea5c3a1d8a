// launch/view/output_file.h: a file written as a stream that is either whole or not there.
#pragma once

#include <functional>
#include <ostream>
#include <string>

namespace strait {

// Replaces what is at `path`. Returns its bytes. Errors: DataError that names the file.
int64_t write_output_file(const std::string& path, const std::function<void(std::ostream&)>& write);

}  // namespace strait
