// data/corpus/document_reader.h: the documents of one input file, one after the other, in bounded
// memory. One thread at a time. Errors are DataErrors that name the file, and the line where there
// is one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "data/corpus/input_files.h"
#include "data/corpus/utf8_file.h"

namespace strait {

inline constexpr int64_t kMinDocumentLimit = 64;

// Where to cut a longer text so that at most `limit` bytes come first: after the last blank line in
// the second half of them, else after the last line, else before the last space, else between two
// code points. REQUIRES: text.size() > limit >= kMinDocumentLimit, well-formed UTF-8.
size_t document_cut(std::string_view text, size_t limit);

class DocumentReader {
 public:
  // Lines of .jsonl may have this size at most: one is held in memory.
  static constexpr size_t kMaxLineBytes = size_t{64} << 20;

  // Longer documents are cut into several. REQUIRES: max_document_bytes >= kMinDocumentLimit.
  DocumentReader(const InputFile& input, int64_t max_document_bytes);

  // The next document, or false at the end. It lives until the next call. Documents of nothing but
  // white space are left out; all others joined are the text of the file or of its lines.
  bool next(std::string_view& document);

  int64_t num_blank() const { return num_blank_; }  // documents left out
  const Utf8File& file() const { return file_; }

 private:
  bool next_piece(std::string_view& document);
  bool next_line();  // into text_
  std::string_view rest() const { return std::string_view(text_).substr(at_); }

  Utf8File file_;
  bool json_lines_;
  size_t limit_;
  int64_t num_blank_ = 0;
  bool more_ = true;    // the file may have more
  std::string text_;    // of the document at hand, or of this part of it
  size_t at_ = 0;       // what of text_ has been given out
  std::string buffer_;  // of .jsonl: read and not yet cut into lines
  size_t line_at_ = 0;  // in buffer_
  int64_t line_ = 0;    // number of the last one taken, from 1
};

}  // namespace strait
