#include "data/corpus/document_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/errors.h"
#include "data/corpus/json_lines.h"

namespace strait {
namespace {

constexpr std::string_view kWhiteSpace = " \t\n\r\f\v";

bool is_blank(std::string_view text) {
  return text.find_first_not_of(kWhiteSpace) == std::string_view::npos;
}

// The end of the last `mark` in the first `limit` bytes; 0 if there is none.
size_t end_of_last(std::string_view text, std::string_view mark, size_t limit) {
  const size_t at = text.substr(0, limit).rfind(mark);
  return at == std::string_view::npos ? 0 : at + mark.size();
}

}  // namespace

size_t document_cut(std::string_view text, size_t limit) {
  const size_t paragraph =
      std::max(end_of_last(text, "\n\n", limit), end_of_last(text, "\n\r\n", limit));
  if (paragraph > limit / 2) return paragraph;
  if (const size_t line = end_of_last(text, "\n", limit); line > limit / 2) return line;
  if (const size_t space = text.substr(0, limit + 1).rfind(' ');
      space != std::string_view::npos && space > limit / 2)
    return space;
  size_t cut = limit;
  while ((static_cast<uint8_t>(text[cut]) & 0xC0) == 0x80) --cut;
  return cut;
}

DocumentReader::DocumentReader(const InputFile& input, int64_t max_document_bytes)
    : file_(input.path),
      json_lines_(input.json_lines),
      limit_(static_cast<size_t>(max_document_bytes)) {
  STRAIT_CHECK(max_document_bytes >= kMinDocumentLimit, std::to_string(max_document_bytes));
}

bool DocumentReader::next(std::string_view& document) {
  while (next_piece(document)) {
    if (!is_blank(document)) return true;
    ++num_blank_;
  }
  return false;
}

bool DocumentReader::next_piece(std::string_view& document) {
  if (json_lines_) {
    if (rest().empty() && !next_line()) return false;
  } else if (more_ && rest().size() <= limit_) {
    text_.erase(0, at_);
    at_ = 0;
    while (more_ && text_.size() <= limit_) more_ = file_.read(text_);
  }
  if (!json_lines_ && rest().empty()) return false;
  document = rest();
  if (document.size() > limit_) document = document.substr(0, document_cut(document, limit_));
  at_ += document.size();
  return true;
}

bool DocumentReader::next_line() {
  while (true) {
    size_t end = buffer_.find('\n', line_at_);
    while (end == std::string::npos && more_) {
      buffer_.erase(0, line_at_);
      line_at_ = 0;
      const size_t known = buffer_.size();
      if (known > kMaxLineBytes)
        throw DataError(fmt::format("{}:{}: the line is longer than {} bytes", file_.path(),
                                    line_ + 1, kMaxLineBytes));
      more_ = file_.read(buffer_);
      end = buffer_.find('\n', known);
    }
    if (end == std::string::npos) end = buffer_.size();
    if (line_at_ >= buffer_.size()) return false;
    const std::string_view line = std::string_view(buffer_).substr(line_at_, end - line_at_);
    line_at_ = end + 1;
    ++line_;
    if (is_blank(line)) continue;
    text_ = text_of_json_line(line, fmt::format("{}:{}", file_.path(), line_));
    at_ = 0;
    return true;
  }
}

}  // namespace strait
