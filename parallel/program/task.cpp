#include "parallel/program/task.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace strait {
namespace {

char letter_of(Pass pass) { return "FBW"[static_cast<int>(pass)]; }

std::string what(const Message& message) {
  return fmt::format("{} m{} l{}", letter_of(message.pass), message.microbatch, message.layer);
}

}  // namespace

const char* name_of(Lane lane) {
  static constexpr const char* kNames[kNumLanes] = {"compute", "near",  "far",
                                                    "pipe",    "shard", "host"};
  return kNames[static_cast<int>(lane)];
}

const char* name_of(Kind kind) {
  static constexpr const char* kNames[] = {
      "gradient_norm", "commit",           "update", "gather_weights", "pack_weights", "embed",
      "attention",     "dispatch",         "shared", "experts",        "combine",      "mlp",
      "head",          "reduce_gradients", "send",   "receive",        "swap"};
  return kNames[static_cast<int>(kind)];
}

std::string to_string(const Task& task) {
  std::string text = name_of(task.kind);
  if (task.kind == Kind::send) return fmt::format("{}.{}", text, what(task.send));
  if (task.kind == Kind::receive) return fmt::format("{}.{}", text, what(task.receive));
  if (task.kind == Kind::swap)
    return fmt::format("{}.{} for {}", text, what(task.send), what(task.receive));
  if (task.microbatch >= 0) text += fmt::format(".{} m{}", letter_of(task.pass), task.microbatch);
  if (task.layer >= 0) text += fmt::format(" l{}", task.layer);
  if (task.num_parts > 1) text += fmt::format(" {}/{}", task.part + 1, task.num_parts);
  if (task.bucket >= 0) text += fmt::format(" b{}", task.bucket);
  return text;
}

std::string to_string(const Program& program) {
  std::string text;
  for (size_t index = 0; index < program.tasks.size(); ++index) {
    const Task& task = program.tasks[index];
    text += fmt::format("{:5d} {:8s} {}", index, name_of(task.lane), to_string(task));
    if (task.chunk > 0) text += fmt::format(" chunk {}", task.chunk);
    if (task.pair >= 0) text += fmt::format(" pair {}", task.pair);
    if (!task.positions.empty()) text += fmt::format(" with {}", fmt::join(task.positions, ","));
    if (task.capacity_rows > 0) text += fmt::format(" capacity {} rows", task.capacity_rows);
    if (task.send.rows > 0) text += fmt::format(" sends {} rows", task.send.rows);
    if (task.receive.rows > 0) text += fmt::format(" receives {} rows", task.receive.rows);
    if (!task.after.empty()) text += fmt::format(" after {}", fmt::join(task.after, ","));
    text += '\n';
  }
  return text;
}

}  // namespace strait
