#include "launch/commands/logits_file.h"

#include <algorithm>
#include <filesystem>

#include "core/errors.h"
#include "data/hdf5/durable.h"

namespace strait {

namespace {

// Told before the text is evaluated, not after.
std::string checked(const std::string& path) {
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (std::filesystem::is_directory(path, error))
    throw DataError(path + ": is a folder, not a file");
  if (!folder.empty() && !std::filesystem::is_directory(folder, error))
    throw DataError(path + ": cannot be made: its folder is not there");
  return path;
}

}  // namespace

LogitsFile::LogitsFile(const std::string& path, Engine& engine, int64_t windows,
                       int64_t sequence_length)
    : path_(checked(path)),
      temporary_(temporary_name(path)),
      engine_(engine),
      sequence_length_(sequence_length),
      rows_left_(windows * sequence_length),
      windows_left_(windows) {
  const int64_t vocabulary = engine.model().settings.vocab_size;
  const std::vector<huggingface::TensorSpec> tensors = {
      {"input_ids", {windows, sequence_length}, DType::i32},
      {"logits", {windows, sequence_length, vocabulary}, DType::f32}};
  require_free_disk(path, tensors[0].bytes() + tensors[1].bytes());
  writer_ = std::make_unique<huggingface::SafetensorsWriter>(temporary_, tensors);
  engine.watch_logits([this](const Tensor& logits_CV, int64_t) { append(logits_CV); });
}

LogitsFile::~LogitsFile() {
  engine_.watch_logits(nullptr);
  if (writer_) discard(temporary_);
}

void LogitsFile::begin_batch(std::span<const int32_t> windows) {
  const auto length = static_cast<size_t>(sequence_length_);
  for (; !windows.empty() && windows_left_ > 0; --windows_left_) {
    writer_->append("input_ids", std::as_bytes(windows.first(length)));
    windows = windows.subspan(length + 1);
  }
}

void LogitsFile::append(const Tensor& logits_CV) {
  const int64_t rows = std::min(rows_left_, logits_CV.rows());
  rows_left_ -= rows;
  if (rows > 0)
    writer_->append("logits", std::as_bytes(logits_CV.slice_rows(0, rows).span<float>()));
}

void LogitsFile::finish() {
  writer_->finish();
  publish(temporary_, path_);
  writer_.reset();
}

}  // namespace strait
