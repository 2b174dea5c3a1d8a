#include "launch/trainer/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/errors.h"

namespace strait {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const std::string& path, const char* what) {
  throw DataError(path + ": " + what + ": " + std::strerror(errno));
}

void replace(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".new";
  std::error_code error, ignored;
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) error = std::error_code(errno != 0 ? errno : EIO, std::generic_category());
  if (!error) fs::rename(temporary, path, error);
  if (!error) return;
  fs::remove(temporary, ignored);
  throw DataError(path + ": cannot be written: " + error.message());
}

// The number after "step": in one of our own lines; -1: not one.
int64_t step_of(const std::string& line) {
  const char* key = "\"step\":";
  const size_t at = line.find(key);
  return at == std::string::npos || line.back() != '}'
             ? -1
             : std::strtoll(line.c_str() + at + std::strlen(key), nullptr, 10);
}

}  // namespace

std::string RunFolder::trace(const std::string& path, int64_t step) {
  return fmt::format("{}/trace/step-{:08}.json", path, step);
}

RunFolder::RunFolder(std::string path) : path_(std::move(path)) {
  std::error_code error;
  fs::create_directories(checkpoints(path_), error);
  if (error) throw DataError(path_ + ": cannot make the run's folder: " + error.message());
  const std::string name = path_ + "/.lock";
  lock_ = ::open(name.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666);
  if (lock_ < 0) fail(name, "cannot open");
  if (::flock(lock_, LOCK_EX | LOCK_NB) == 0) return;
  const int reason = errno;
  ::close(lock_);
  if (reason == EWOULDBLOCK)
    throw DataError(path_ + ": another process is training in this folder");
  errno = reason;
  fail(name, "cannot lock");
}

RunFolder::~RunFolder() { ::close(lock_); }

void RunFolder::write_recipe(const std::string& yaml) const { replace(recipe(path_), yaml); }

void RunFolder::cut_metrics_after(int64_t step) const {
  std::error_code error;
  const fs::file_status status = fs::status(metrics(), error);
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw DataError(metrics() + ": is there and is not a file");
  std::ifstream file(metrics(), std::ios::binary);
  if (!file) return;
  std::string kept;
  for (std::string line; std::getline(file, line);) {
    const int64_t of_line = line.empty() ? -1 : step_of(line);
    if (of_line >= 0 && of_line <= step) kept += line + "\n";
  }
  file.close();
  replace(metrics(), kept);
}

void RunFolder::append_metrics(const std::string& line) {
  std::ofstream file(metrics(), std::ios::binary | std::ios::app);
  file << line << "\n";
  file.flush();
  if (!file) fail(metrics(), "cannot write");
}

}  // namespace strait
