// launch/commands/logits_file.h: the logits of an evaluation as a file, for other programs to
// compare with.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "data/huggingface/safetensors.h"
#include "launch/engine/engine.h"

namespace strait {

// A safetensors file of `input_ids` [W, S] i32 and `logits` [W, S, V] f32 for the first W windows
// of S tokens that the engine evaluates. Appears under its name at finish(). Nothing is held in
// memory.
class LogitsFile {
 public:
  // Takes the engine's logits watcher. The engine must outlive this. Throws DataError when the file
  // cannot be made.
  LogitsFile(const std::string& path, Engine& engine, int64_t windows, int64_t sequence_length);
  ~LogitsFile();
  LogitsFile(const LogitsFile&) = delete;
  LogitsFile& operator=(const LogitsFile&) = delete;

  // Before each evaluation: its windows, of sequence_length + 1 tokens each.
  void begin_batch(std::span<const int32_t> windows);
  void finish();

 private:
  void append(const Tensor& logits_CV);

  const std::string path_, temporary_;
  Engine& engine_;
  const int64_t sequence_length_;
  int64_t rows_left_ = 0;  // rows of logits
  int64_t windows_left_ = 0;
  std::unique_ptr<huggingface::SafetensorsWriter> writer_;
};

}  // namespace strait
