// launch/trainer/run_folder.h: the folder of one run.
//
//   recipe.resolved.yaml   every key, defaults too, of the last start
//   metrics.jsonl          one JSON object per step or evaluation
//   checkpoints/step-...   data/checkpoint/folder.h
//   trace/step-...json     of a step that was traced: launch/view/perfetto.h
#pragma once

#include <cstdint>
#include <string>

namespace strait {

class RunFolder {
 public:
  // Makes the folder if it is not there and locks it, so that a second run cannot write into it.
  // For rank 0. Throws DataError.
  explicit RunFolder(std::string path);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::string& path() const { return path_; }
  static std::string recipe(const std::string& path) { return path + "/recipe.resolved.yaml"; }
  static std::string checkpoints(const std::string& path) { return path + "/checkpoints"; }
  static std::string trace(const std::string& path, int64_t step);
  std::string metrics() const { return path_ + "/metrics.jsonl"; }

  // Replaces the file in one step.
  void write_recipe(const std::string& yaml) const;
  // Drops the lines of steps after `step`, which a resumed run will write again, and a last line
  // that was cut short.
  void cut_metrics_after(int64_t step) const;
  void append_metrics(const std::string& line);

 private:
  std::string path_;
  int lock_ = -1;
};

}  // namespace strait
