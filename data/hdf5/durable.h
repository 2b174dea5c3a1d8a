// data/hdf5/durable.h: files that are either whole or not there. Thread-safe; errors are DataErrors
// that name the file.
#pragma once

#include <cstdint>
#include <string>

namespace strait {

// Bytes an unprivileged process may still write on the file system that holds `path` (or its
// nearest existing parent folder).
int64_t free_disk_bytes(const std::string& path);

// Throws DataError when fewer than `bytes` are free where `path` will be written.
void require_free_disk(const std::string& path, int64_t bytes);

// "<path>.partial-<process id>": the name to write under before publish().
std::string temporary_name(const std::string& path);

// fsync of the temporary file, rename over `path`, fsync of the folder: afterwards `path` is whole
// even after a power cut. `temporary` may be a folder; the files in it must have been synced by
// sync_file().
void publish(const std::string& temporary, const std::string& path);

// Empties and removes a file that was not finished; says nothing if that fails. Emptying first
// gives the space back even while some descriptor is still open.
void discard(const std::string& temporary) noexcept;

void sync_file(const std::string& path);

// Writes a whole small file by temporary name and publish().
void write_file_durably(const std::string& path, const std::string& content);

}  // namespace strait
