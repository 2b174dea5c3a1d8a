#include "data/hdf5/durable.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "core/errors.h"

namespace strait {
namespace {

[[noreturn]] void fail(const std::string& path, const char* doing, int error) {
  if (error == ENOSPC || error == EDQUOT)
    throw DataError(
        fmt::format("{}: the disk is full ({} bytes free)", path, free_disk_bytes(path)));
  throw DataError(fmt::format("{}: {} failed: {}", path, doing, std::strerror(error)));
}

struct Descriptor {
  int fd;
  explicit Descriptor(int opened) : fd(opened) {}
  Descriptor(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

int64_t free_disk_bytes(const std::string& path) {
  std::error_code ignored;
  std::filesystem::path at = std::filesystem::absolute(path, ignored);
  while (!std::filesystem::exists(at, ignored) && at.has_relative_path()) at = at.parent_path();
  struct statvfs stats {};
  if (::statvfs(at.c_str(), &stats) != 0)
    throw DataError(
        fmt::format("{}: cannot read the free disk space: {}", path, std::strerror(errno)));
  return static_cast<int64_t>(stats.f_bavail) * static_cast<int64_t>(stats.f_frsize);
}

void require_free_disk(const std::string& path, int64_t bytes) {
  const int64_t free = free_disk_bytes(path);
  if (free < bytes)
    throw DataError(
        fmt::format("{}: needs about {} bytes of disk, {} are free", path, bytes, free));
}

std::string temporary_name(const std::string& path) {
  return fmt::format("{}.partial-{}", path, ::getpid());
}

void sync_file(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) fail(path, "open", errno);
  if (::fsync(file.fd) != 0) fail(path, "fsync", errno);
}

void publish(const std::string& temporary, const std::string& path) {
  sync_file(temporary);
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    if (errno == ENOTEMPTY || errno == EEXIST)  // another process was faster
      throw DataError(path + ": already exists");
    fail(path, "rename", errno);
  }
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  sync_file(folder.empty() ? "." : folder.string());
}

void discard(const std::string& temporary) noexcept {
  if (::truncate(temporary.c_str(), 0) == 0) ::unlink(temporary.c_str());
}

void write_file_durably(const std::string& path, const std::string& content) {
  const std::string temporary = temporary_name(path);
  try {
    const Descriptor file(
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (file.fd < 0) fail(path, "open", errno);
    for (size_t at = 0; at < content.size();) {
      const ssize_t wrote = ::write(file.fd, content.data() + at, content.size() - at);
      if (wrote < 0 && errno != EINTR) fail(path, "write", errno);
      if (wrote > 0) at += static_cast<size_t>(wrote);
    }
    publish(temporary, path);
  } catch (...) {
    discard(temporary);
    throw;
  }
}

}  // namespace strait
