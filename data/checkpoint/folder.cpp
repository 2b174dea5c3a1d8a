#include "data/checkpoint/folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>

#include "core/errors.h"
#include "data/checkpoint/file_bytes.h"
#include "data/checkpoint/reader.h"
#include "data/hdf5/durable.h"

namespace strait::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-", kPartial = ".partial", kReplaced = ".replaced",
                           kRemoving = ".removing";

// The step of "step-<digits><suffix>", or nothing.
std::optional<int64_t> step_of(const std::string& name, std::string_view suffix) {
  const size_t fixed = kPrefix.size() + suffix.size();
  if (!name.starts_with(kPrefix) || !name.ends_with(suffix) || name.size() <= fixed) return {};
  const char* begin = name.data() + kPrefix.size();
  const char* end = name.data() + name.size() - suffix.size();
  int64_t step = 0;
  const auto [stop, error] = std::from_chars(begin, end, step);
  if (error != std::errc() || stop != end || step < 0) return {};
  return step;
}

[[noreturn]] void fail(const std::string& path, const std::string& doing,
                       const std::error_code& error) {
  throw DataError(fmt::format("{}: cannot {}: {}", path, doing, error.message()));
}

void rename(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail(from, "be renamed to " + to, error);
}

void remove_folder(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);  // does not follow symbolic links
  if (error) fail(path, "be removed", error);
}

// Names of the real folders directly under `root`, links not counted; none if there is no root.
std::vector<std::string> folders_in(const std::string& root) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator items(root, error);
  if (error == std::errc::no_such_file_or_directory) return names;
  if (error) fail(root, "be listed", error);
  for (const fs::directory_entry& item : items)
    if (item.symlink_status(error).type() == fs::file_type::directory)
      names.push_back(item.path().filename().string());
  return names;
}

struct StepFolder {
  int64_t step = 0;
  std::string path;
};

std::vector<StepFolder> newest_first(const std::string& root) {
  std::vector<StepFolder> steps;
  for (const std::string& name : folders_in(root))
    if (const auto step = step_of(name, "")) steps.push_back({*step, root + "/" + name});
  std::sort(steps.begin(), steps.end(),
            [](const StepFolder& a, const StepFolder& b) { return a.step > b.step; });
  return steps;
}

// Why the folder cannot be used; empty if it opens.
std::string damage_of(const StepFolder& folder) {
  try {
    const Reader reader(folder.path);
    if (reader.manifest().step == folder.step) return "";
    return fmt::format("{}: its manifest says step {}", folder.path, reader.manifest().step);
  } catch (const DataError& error) {
    return error.what();
  }
}

}  // namespace

std::string step_folder(const std::string& root, int64_t step) {
  return fmt::format("{}/{}{:08}", root, kPrefix, step);
}

std::string temporary_folder(const std::string& root, int64_t step) {
  return step_folder(root, step) + std::string(kPartial);
}

void create_temporary(const std::string& temporary) {
  discard(temporary);
  std::error_code error;
  fs::create_directories(temporary, error);
  if (error) fail(temporary, "be made", error);
}

void discard(const std::string& temporary) {
  // After a write that failed HDF5 1.10 can keep the file open: cut to nothing it takes no room
  // until then.
  std::error_code ignored;
  for (const fs::directory_entry& item : fs::directory_iterator(temporary, ignored))
    if (item.symlink_status(ignored).type() == fs::file_type::regular)
      fs::resize_file(item.path(), 0, ignored);
  remove_folder(temporary);
}

void publish(const std::string& temporary, const std::string& final_folder,
             const Manifest& manifest) {
  require_complete(manifest, temporary);
  for (const Shard& shard : manifest.shards) {
    const int64_t bytes = file_bytes(temporary + "/" + shard.file);
    if (bytes != shard.bytes)
      throw DataError(fmt::format("{}/{}: has {} bytes, {} were written", temporary, shard.file,
                                  bytes, shard.bytes));
  }
  write_file_durably(temporary + "/manifest.json", to_json(manifest));
  // A folder cannot be renamed over one that is not empty: the old one steps aside first.
  const std::string aside = final_folder + std::string(kReplaced);
  const bool replaces = fs::exists(final_folder);
  if (replaces) {
    remove_folder(aside);
    rename(final_folder, aside);
  }
  ::strait::publish(temporary, final_folder);
  if (replaces) remove_folder(aside);
}

Latest latest(const std::string& root, int64_t below_step) {
  Latest result;
  for (const StepFolder& folder : newest_first(root)) {
    if (folder.step >= below_step) continue;
    std::string reason = damage_of(folder);
    if (reason.empty()) {
      result.folder = folder.path;
      result.step = folder.step;
      break;
    }
    result.damaged.push_back({folder.path, std::move(reason)});
  }
  return result;
}

std::vector<std::string> prune(const std::string& root, int keep) {
  STRAIT_CHECK(keep >= 1, std::to_string(keep));
  std::vector<std::string> removed;
  int kept = 0;
  for (const StepFolder& folder : newest_first(root)) {
    if (kept < keep) {
      if (damage_of(folder).empty()) ++kept;
      continue;
    }
    const std::string doomed = folder.path + std::string(kRemoving);
    remove_folder(doomed);
    rename(folder.path, doomed);
    remove_folder(doomed);
    removed.push_back(folder.path);
  }
  return removed;
}

std::vector<std::string> remove_leftovers(const std::string& root) {
  std::vector<std::string> removed;
  for (const std::string& name : folders_in(root)) {
    for (const std::string_view suffix : {kPartial, kReplaced, kRemoving}) {
      if (!step_of(name, suffix)) continue;
      const std::string path = root + "/" + name;
      const std::string final_folder = path.substr(0, path.size() - suffix.size());
      if (suffix == kReplaced && !fs::exists(final_folder)) {  // the crash came between two renames
        rename(path, final_folder);
        continue;
      }
      remove_folder(path);
      removed.push_back(path);
    }
  }
  std::sort(removed.begin(), removed.end());
  return removed;
}

}  // namespace strait::checkpoint
