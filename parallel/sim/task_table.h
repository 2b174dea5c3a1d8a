// parallel/sim/task_table.h: task costs from measured times, where formulas would guess.
//
// A table is CSV text, a row for each task that was timed:
//   kind,pass,layer,start_us,end_us,busy_us,cores
// kind and pass as tasks print (attention, F), layer as the tasks to be priced count it. busy_us is
// the time that its kernels ran, at most end_us - start_us. cores: share of a rank's cores that the
// task took from others while it ran. Times measured while other tasks ran, as in a step's trace,
// already have in them what cores those took: then cores is 0, or it would count twice. Times
// measured alone name the transfers' cores. # starts a comment.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/program/task.h"
#include "parallel/sim/simulate.h"

namespace strait {

struct MeasuredTask {
  Kind kind = Kind::attention;
  Pass pass = Pass::forward;
  int layer = 0;
  double start_us = 0, end_us = 0, busy_us = 0;
  double cores = 0;
};

struct TaskTable {
  std::string name;  // of the file, for messages
  std::vector<MeasuredTask> rows;
};

// RecipeError for text that is not such a table, with the line and the rule.
TaskTable parse_task_table(std::string_view text, std::string name);
// DataError when the file cannot be read.
TaskTable read_task_table(const std::filesystem::path& path);

struct TableUse {
  bool by_layer = false;   // each layer its own time; otherwise every layer the mean of all
  bool with_gaps = false;  // end - start, gaps between a task's kernels included; otherwise busy
};

// The mean over the rows of this kind and pass (and layer); a part of a layer's waves takes its
// share of the whole. Nothing when there is no such row.
std::optional<TaskCost> cost_of(const TaskTable& table, const Task& task, TableUse use);

// Costs of all tasks: the table's where it has them, those of `otherwise` where not. `otherwise`
// may throw.
std::vector<std::vector<TaskCost>> costs_from(
    const TaskTable& table, TableUse use, const std::vector<Program>& programs,
    const std::function<TaskCost(const Task&)>& otherwise);

}  // namespace strait
