#include "parallel/program/task.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace strait {

const char* name_of(Lane lane) {
  static constexpr const char* kNames[kNumLanes] = {"compute", "near", "far", "pipe", "shard", "host"};
  return kNames[static_cast<int>(lane)];
}

const char* name_of(Kind kind) {
  static constexpr const char* kNames[] = {
      "gradient_norm", "commit",  "update", "gather_weights", "pack_weights",
      "embed",         "attention", "dispatch", "shared",     "experts",
      "combine",       "mlp",     "head",   "reduce_gradients"};
  return kNames[static_cast<int>(kind)];
}

std::string to_string(const Task& task) {
  std::string text = name_of(task.kind);
  const bool has_pass = task.microbatch >= 0;
  if (has_pass) text += std::string(".") + "FBW"[static_cast<int>(task.pass)];
  if (task.microbatch >= 0) text += fmt::format(" m{}", task.microbatch);
  if (task.layer >= 0) text += fmt::format(" l{}", task.layer);
  if (task.bucket >= 0) text += fmt::format(" b{}", task.bucket);
  return text;
}

std::string to_string(const Program& program) {
  std::string text;
  for (size_t index = 0; index < program.tasks.size(); ++index) {
    const Task& task = program.tasks[index];
    text += fmt::format("{:5d} {:8s} {}", index, name_of(task.lane), to_string(task));
    if (task.capacity_rows > 0) text += fmt::format(" capacity {} rows", task.capacity_rows);
    if (!task.after.empty()) text += fmt::format(" after {}", fmt::join(task.after, ","));
    text += '\n';
  }
  return text;
}

}  // namespace strait
