#include "data/corpus/input_files.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>

#include "core/errors.h"
#include "data/corpus/folder_builder.h"

namespace strait {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 4> kKinds = {".txt", ".md", ".pod", ".jsonl"};

std::string lower_extension(const fs::path& path) {
  std::string text = path.extension().string();
  for (char& letter : text)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  return text;
}

class Lister {
 public:
  void add(const std::string& given) {
    std::error_code error;
    const fs::file_status status = fs::status(given, error);
    if (!fs::exists(status))
      throw DataError(given + ": " + (error ? error.message() : "not there"));
    if (fs::is_directory(status)) return add_folder(given);
    if (!fs::is_regular_file(status))
      throw DataError(given + ": is neither a file nor a folder (the text is read three times)");
    if (!known_kind(given))
      throw DataError(fmt::format("{}: expected a file of kind {}", given, fmt::join(kKinds, " ")));
    if (!add_file(given)) throw DataError(given + ": is empty");
  }

  InputFiles take() { return std::move(found_); }

 private:
  static bool known_kind(const fs::path& path) {
    return std::ranges::find(kKinds, lower_extension(path)) != kKinds.end();
  }

  // False when it has no bytes.
  bool add_file(const fs::path& path) {
    if (::access(path.c_str(), R_OK) != 0)
      throw DataError(fmt::format("{}: cannot be read: {}", path.string(), std::strerror(errno)));
    const auto size = static_cast<int64_t>(fs::file_size(path));
    if (size == 0) return false;
    if (!seen_.insert(fs::canonical(path)).second) return true;
    found_.files.push_back({path.string(), size, lower_extension(path) == ".jsonl"});
    found_.num_bytes += size;
    return true;
  }

  void add_folder(const std::string& given) {
    num_of_kind_ = 0;
    walk(given);
    if (num_of_kind_ == 0)
      throw DataError(fmt::format("{}: holds no file of kind {}", given, fmt::join(kKinds, " ")));
  }

  void walk(const fs::path& folder) {
    std::vector<fs::directory_entry> entries;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder))
      entries.push_back(entry);
    std::ranges::sort(entries);
    for (const fs::directory_entry& entry : entries) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with('.')) continue;
      if (entry.is_directory() && !entry.is_symlink()) {
        if (!is_corpus_folder(entry.path().string())) walk(entry.path());
      } else if (entry.is_regular_file() && known_kind(entry.path())) {
        ++num_of_kind_;
        if (!add_file(entry.path())) ++found_.num_empty;
      }
    }
  }

  InputFiles found_;
  std::set<fs::path> seen_;
  int64_t num_of_kind_ = 0;
};

}  // namespace

InputFiles list_input_files(const std::vector<std::string>& paths) {
  Lister lister;
  try {
    for (const std::string& path : paths) lister.add(path);
  } catch (const fs::filesystem_error& error) {
    throw DataError(
        fmt::format("{}: cannot be read: {}", error.path1().string(), error.code().message()));
  }
  return lister.take();
}

}  // namespace strait
