// data/huggingface/files.h: small files at once. Errors are DataErrors that name the file.
#pragma once

#include <string>

namespace strait::huggingface {

std::string read_text(const std::string& path);
void write_text(const std::string& path, const std::string& text);  // and syncs it

}  // namespace strait::huggingface
