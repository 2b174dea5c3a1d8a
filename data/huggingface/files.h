// data/huggingface/files.h: a small file at once. Errors are DataErrors that name the file.
#pragma once

#include <string>

namespace strait::huggingface {

void write_text(const std::string& path, const std::string& text);  // and syncs it

}  // namespace strait::huggingface
