#include "data/corpus/folder_builder.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "core/errors.h"
#include "data/hdf5/durable.h"

namespace strait {
namespace {

namespace fs = std::filesystem;

// Without the slash at the end, which would put the temporary folder inside.
std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

constexpr std::array<const char*, 4> kFiles = {"corpus.h5", "held_out.txt", "tokenizer.json",
                                               "tokenizer_config.json"};

// What replacing the folder would delete beside a corpus.
void refuse_other_files(const std::string& path) {
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (std::ranges::find(kFiles, name) == kFiles.end())
      throw DataError(
          fmt::format("{}: is not a corpus's, and --replace would delete it; move it away",
                      entry.path().string()));
  }
}

void check_free(const std::string& path, bool replace) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status)) throw DataError(path + ": is there and is not a folder");
  if (fs::is_empty(path)) return;
  if (!is_corpus_folder(path))
    throw DataError(path + ": is a folder with other things in it; name a new one");
  if (!replace)
    throw DataError(path + ": holds a corpus already; name another folder, or say --replace");
  refuse_other_files(path);
}

}  // namespace

bool is_corpus_folder(const std::string& path) {
  return fs::exists(fs::path(path) / "corpus.h5") ||
         fs::path(path).filename().string().find(".partial-") != std::string::npos;
}

FolderBuilder::FolderBuilder(std::string path, bool replace)
    : path_(without_slash(std::move(path))), temporary_(temporary_name(path_)), replace_(replace) {
  try {
    check_free(path_, replace_);
    fs::remove_all(temporary_);  // of a process that had this number before
    fs::create_directories(temporary_);
  } catch (const fs::filesystem_error& error) {
    throw DataError(fmt::format("{}: cannot be made: {}", path_, error.code().message()));
  }
}

FolderBuilder::~FolderBuilder() {
  std::error_code ignored;
  if (!published_) fs::remove_all(temporary_, ignored);
}

void FolderBuilder::publish() {
  std::error_code error;
  if (fs::exists(path_, error) && !fs::is_empty(path_, error)) {
    swap_with_old();
  } else {
    strait::publish(temporary_, path_);
    published_ = true;
  }
}

// One step where the file system can exchange two names, else two.
void FolderBuilder::swap_with_old() {
  check_free(path_, replace_);  // it may be another one by now
  std::error_code ignored;
  if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) == 0) {
    published_ = true;
    fs::remove_all(temporary_, ignored);
    return;
  }
  const std::string old = path_ + ".replaced";
  fs::remove_all(old, ignored);
  if (std::rename(path_.c_str(), old.c_str()) != 0)
    throw DataError(fmt::format("{}: cannot be replaced: {}", path_, std::strerror(errno)));
  strait::publish(temporary_, path_);
  published_ = true;
  fs::remove_all(old, ignored);
}

}  // namespace strait
