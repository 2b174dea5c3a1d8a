// data/corpus/input_files.h: which files a corpus is made of. Errors are DataErrors that name the
// path.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace strait {

struct InputFile {
  std::string path;         // as it was given, or folder/name for one that was found
  int64_t num_bytes = 0;    // never 0
  bool json_lines = false;  // .jsonl: a document is the field "text" of a line; else one file
};

struct InputFiles {
  std::vector<InputFile> files;
  int64_t num_bytes = 0;
  int64_t num_empty = 0;  // files of 0 bytes found in folders, left out
};

// Files are .txt, .md, .pod or .jsonl, in any case of letters. Folders are searched with all
// folders in them, names in byte order; files of other kinds, names that begin with a dot, and
// folders with a corpus in them are passed over, links to folders not followed. A file that is
// named twice, or reached by two links, counts once, where it comes first.
// Throws when a path does not exist, cannot be read, is empty, or is a file of another kind, and
// when a folder holds no file of these kinds.
InputFiles list_input_files(const std::vector<std::string>& paths);

}  // namespace strait
