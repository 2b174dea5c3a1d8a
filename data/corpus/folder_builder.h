// data/corpus/folder_builder.h: a corpus folder that appears whole or not at all.
#pragma once

#include <string>

namespace strait {

// Has a corpus.h5, or is one that was left unfinished.
bool is_corpus_folder(const std::string& path);

class FolderBuilder {
 public:
  // Makes "<path>.partial-<process id>", and the folders above. Throws DataError when `path` is
  // there and is not an empty folder; with `replace` a corpus folder may be there too, but nothing
  // else, and no file in it that is not a corpus's.
  FolderBuilder(std::string path, bool replace);
  // Removes the folder unless publish() was reached.
  ~FolderBuilder();
  FolderBuilder(const FolderBuilder&) = delete;
  FolderBuilder& operator=(const FolderBuilder&) = delete;

  std::string file(const std::string& name) const { return temporary_ + "/" + name; }

  // Gives the folder its name; an older corpus goes away. REQUIRES: its files are closed and
  // synced.
  void publish();

 private:
  void swap_with_old();

  std::string path_, temporary_;
  bool replace_;
  bool published_ = false;
};

}  // namespace strait
