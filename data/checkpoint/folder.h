// data/checkpoint/folder.h: the life of a step folder: begun under a temporary name, published by a
// rename, found again, removed when old. A folder under its final name is whole.
//
//   create_temporary(temporary)                                  one rank
//   write_shard(temporary, rank, pieces)              every rank; the shards go to one rank
//   publish(temporary, final, manifest)               that rank; or discard(temporary) when a rank
//   failed
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "data/checkpoint/manifest.h"

namespace strait::checkpoint {

std::string step_folder(const std::string& root, int64_t step);  // <root>/step-00001000
std::string temporary_folder(const std::string& root,
                             int64_t step);  // <root>/step-00001000.partial

// Makes the empty folder, and its parents; what an earlier try left there is removed.
void create_temporary(const std::string& temporary);

// Removes the temporary folder and all in it, and frees its room at once. Does nothing if there is
// none.
void discard(const std::string& temporary);

// Proves coverage (require_complete), checks that every file is there with its size, writes
// manifest.json, syncs, and renames. A folder that is already there under the final name is
// replaced. Throws DataError; the temporary folder then remains for discard(), and earlier
// checkpoints are untouched. REQUIRES: both folders are on one file system.
void publish(const std::string& temporary, const std::string& final_folder,
             const Manifest& manifest);

struct Damaged {
  std::string folder;
  std::string reason;
};

struct Latest {
  std::string folder;  // empty: there is none
  int64_t step = 0;
  std::vector<Damaged> damaged;  // newer folders that had to be skipped
};

// The newest step folder under `root` whose step is less than `below_step` and that opens (Reader:
// manifest, coverage, files and sizes; not the values' checksums, which reading checks). When
// reading it fails, ask again with its step. A `root` that does not exist has none.
Latest latest(const std::string& root, int64_t below_step = std::numeric_limits<int64_t>::max());

// Removes step folders older than the `keep` newest that open. REQUIRES: keep >= 1. A folder is
// renamed before its files go, so that no part of it is ever seen under its own name. Returns what
// was removed.
std::vector<std::string> prune(const std::string& root, int keep);

// Removes what a crash can leave under `root`: folders named step-<digits>.partial, .replaced or
// .removing, nothing else. A replaced folder whose successor did not get its name is put back.
// Returns what was removed. REQUIRES: nobody is writing a checkpoint under `root`.
std::vector<std::string> remove_leftovers(const std::string& root);

}  // namespace strait::checkpoint
