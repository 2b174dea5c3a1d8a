#include "parallel/sim/task_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <sstream>

#include "core/errors.h"

namespace strait {
namespace {

constexpr std::string_view kHeader = "kind,pass,layer,start_us,end_us,busy_us,cores";
constexpr size_t kNumColumns = 7;
constexpr int kNumKinds = static_cast<int>(Kind::swap) + 1;

struct Line {
  const std::string& table;
  int number;
  [[noreturn]] void fail(const std::string& rule) const {
    throw RecipeError(fmt::format("{}:{}: {}", table, number, rule));
  }
};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())))
    text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())))
    text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> cells_of(std::string_view row) {
  std::vector<std::string_view> cells;
  for (;;) {
    const size_t comma = row.find(',');
    cells.push_back(trimmed(row.substr(0, comma)));
    if (comma == std::string_view::npos) return cells;
    row.remove_prefix(comma + 1);
  }
}

template <class T>
T number_of(const Line& line, std::string_view column, std::string_view cell) {
  T value{};
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (error != std::errc() || end != cell.data() + cell.size() || !(value >= 0) ||
      !std::isfinite(double(value)))
    line.fail(fmt::format("{} is a number of at least 0, not '{}'", column, cell));
  return value;
}

Kind kind_of(const Line& line, std::string_view cell) {
  std::string known;
  for (int kind = 0; kind < kNumKinds; ++kind) {
    if (cell == name_of(static_cast<Kind>(kind))) return static_cast<Kind>(kind);
    known += std::string(kind > 0 ? ", " : "") + name_of(static_cast<Kind>(kind));
  }
  line.fail(fmt::format("unknown kind '{}'; kinds are {}", cell, known));
}

Pass pass_of(const Line& line, std::string_view cell) {
  constexpr std::string_view kPasses = "FBW";
  if (cell.size() != 1 || kPasses.find(cell) == std::string_view::npos)
    line.fail(fmt::format(
        "pass is F (forward), B (input gradient) or W (weight gradient), not '{}'", cell));
  return static_cast<Pass>(kPasses.find(cell));
}

MeasuredTask row_of(const Line& line, std::string_view text) {
  const std::vector<std::string_view> cells = cells_of(text);
  if (cells.size() != kNumColumns)
    line.fail(fmt::format("expected {} cells ({}), got {}", kNumColumns, kHeader, cells.size()));
  const MeasuredTask row{.kind = kind_of(line, cells[0]),
                         .pass = pass_of(line, cells[1]),
                         .layer = number_of<int>(line, "layer", cells[2]),
                         .start_us = number_of<double>(line, "start_us", cells[3]),
                         .end_us = number_of<double>(line, "end_us", cells[4]),
                         .busy_us = number_of<double>(line, "busy_us", cells[5]),
                         .cores = number_of<double>(line, "cores", cells[6])};
  if (row.busy_us > row.end_us - row.start_us)
    line.fail(fmt::format("busy_us {} is more than end_us - start_us = {}", row.busy_us,
                          row.end_us - row.start_us));
  if (row.cores > 1) line.fail(fmt::format("cores is a share in [0, 1], not {}", row.cores));
  return row;
}

}  // namespace

TaskTable parse_task_table(std::string_view text, std::string name) {
  TaskTable table{.name = std::move(name), .rows = {}};
  bool has_header = false;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view row =
        trimmed(text.substr(0, std::min(text.substr(0, end).find('#'), end)));
    text.remove_prefix(std::min(end + 1, text.size()));
    const Line line{table.name, number};
    if (row.empty()) continue;
    if (has_header)
      table.rows.push_back(row_of(line, row));
    else if (row != kHeader)
      line.fail(fmt::format("the first row of a task table is '{}', not '{}'", kHeader, row));
    has_header = true;
  }
  if (table.rows.empty())
    throw RecipeError(fmt::format("{}: a task table without a task", table.name));
  return table;
}

TaskTable read_task_table(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) throw DataError(fmt::format("cannot read the task table {}", path.string()));
  return parse_task_table(text.str(), path.string());
}

std::optional<TaskCost> cost_of(const TaskTable& table, const Task& task, TableUse use) {
  int num_rows = 0;
  double us = 0, cores = 0;
  for (const MeasuredTask& row : table.rows) {
    if (row.kind != task.kind || row.pass != task.pass || (use.by_layer && row.layer != task.layer))
      continue;
    us += use.with_gaps ? row.end_us - row.start_us : row.busy_us;
    cores += row.cores;
    ++num_rows;
  }
  if (num_rows == 0) return std::nullopt;
  TaskCost cost{.seconds = us * 1e-6 / num_rows / task.num_parts};
  cost.share[static_cast<size_t>(Link::cores)] = is_transfer(task.lane) ? cores / num_rows : 1;
  return cost;
}

std::vector<std::vector<TaskCost>> costs_from(
    const TaskTable& table, TableUse use, const std::vector<Program>& programs,
    const std::function<TaskCost(const Task&)>& otherwise) {
  std::vector<std::vector<TaskCost>> costs(programs.size());
  for (size_t p = 0; p < programs.size(); ++p)
    for (const Task& task : programs[p].tasks) {
      const std::optional<TaskCost> measured = cost_of(table, task, use);
      costs[p].push_back(measured ? *measured : otherwise(task));
    }
  return costs;
}

}  // namespace strait
