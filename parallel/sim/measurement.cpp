#include "parallel/sim/measurement.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include "core/errors.h"

namespace strait {
namespace {

constexpr const char* kColumns[] = {"what",  "precision",     "m",      "n", "k", "groups", "flops",
                                    "bytes", "alone_seconds", "seconds"};

// What each kind of line needs and may have, beside what and seconds.
struct LineRule {
  Measured what;
  const char* name;
  std::vector<std::string> needs, may = {};
};
const std::vector<LineRule>& rules() {
  static const std::vector<LineRule> all = {
      {Measured::launch, "launch", {}},
      {Measured::dense_gemm, "dense_gemm", {"precision", "m", "n", "k"}},
      {Measured::grouped_gemm, "grouped_gemm", {"precision", "m", "n", "k", "groups"}},
      {Measured::weight_gradient, "weight_gradient", {"precision", "m", "n", "k"}, {"groups"}},
      {Measured::attention_forward, "attention_forward", {"precision", "flops"}},
      {Measured::attention_backward, "attention_backward", {"precision", "flops"}},
      {Measured::elementwise, "elementwise", {"bytes"}},
      {Measured::far_message, "far_message", {"bytes"}},
      {Measured::near_message, "near_message", {"bytes"}},
      {Measured::far_exchange, "far_exchange", {"bytes"}},
      {Measured::near_exchange, "near_exchange", {"bytes"}},
      {Measured::under_exchange, "under_exchange", {"alone_seconds"}},
      {Measured::commit, "commit", {}},
  };
  return all;
}

std::string trimmed(const std::string& text) {
  const size_t start = text.find_first_not_of(" \t\r");
  if (start == std::string::npos) return "";
  return text.substr(start, text.find_last_not_of(" \t\r") - start + 1);
}

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> cells;
  std::istringstream stream(line);
  for (std::string cell; std::getline(stream, cell, ',');) cells.push_back(trimmed(cell));
  if (!line.empty() && line.back() == ',') cells.emplace_back();
  return cells;
}

std::optional<double> positive(const std::string& text) {
  double value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_whole_text = read.ec == std::errc() && read.ptr == text.data() + text.size();
  if (!is_whole_text || !std::isfinite(value) || value <= 0) return std::nullopt;
  return value;
}

// One line's cells by column, and what is wrong with them.
class Line {
 public:
  Line(std::string place, std::map<std::string, std::string> cells,
       std::vector<std::string>& problems)
      : place_(std::move(place)), cells_(std::move(cells)), problems_(problems) {}

  std::optional<Measurement> read() {
    const LineRule* rule = nullptr;
    std::vector<std::string> names;
    for (const LineRule& candidate : rules()) {
      names.emplace_back(candidate.name);
      if (cells_["what"] == candidate.name) rule = &candidate;
    }
    if (rule == nullptr) {
      problem(fmt::format("what: expected one of {}, got '{}'", fmt::join(names, ", "),
                          cells_["what"]));
      return std::nullopt;
    }
    check_cells(*rule);
    Measurement got{.what = rule->what, .place = place_};
    got.precision = precision();
    got.shape = {whole("m"), whole("n"), whole("k"), std::max<int64_t>(1, whole("groups"))};
    got.flops = number("flops");
    got.bytes = number("bytes");
    got.alone_seconds = number("alone_seconds");
    got.seconds = number("seconds");
    return is_good_ ? std::optional(got) : std::nullopt;
  }

 private:
  void problem(const std::string& text) {
    is_good_ = false;
    problems_.push_back(fmt::format("{}: {}", place_, text));
  }

  void check_cells(const LineRule& rule) {
    for (const auto& [column, cell] : cells_) {
      const auto is_in = [&](const std::vector<std::string>& list) {
        return std::find(list.begin(), list.end(), column) != list.end();
      };
      const bool needed = column == "what" || column == "seconds" || is_in(rule.needs);
      if (needed && cell.empty()) problem(fmt::format("{}: {} needs it", column, rule.name));
      if (!needed && !is_in(rule.may) && !cell.empty())
        problem(fmt::format("{}: {} has none, got '{}'", column, rule.name, cell));
    }
  }

  double number(const std::string& column) {
    const std::string& cell = cells_[column];
    if (cell.empty()) return 0;
    const std::optional<double> value = positive(cell);
    if (!value) problem(fmt::format("{}: expected a number above 0, got '{}'", column, cell));
    return value.value_or(0);
  }

  int64_t whole(const std::string& column) {
    const double value = number(column);
    if (value == std::floor(value) && value < 1e15) return static_cast<int64_t>(value);
    problem(fmt::format("{}: expected a whole number, got '{}'", column, cells_[column]));
    return 0;
  }

  Precision precision() {
    const std::string& cell = cells_["precision"];
    for (const Precision known : {Precision::fp32, Precision::bf16, Precision::fp8})
      if (cell == name_of(known)) return known;
    if (!cell.empty())
      problem(fmt::format("precision: expected one of fp32, bf16, fp8, got '{}'", cell));
    return Precision::bf16;
  }

  const std::string place_;
  std::map<std::string, std::string> cells_;
  std::vector<std::string>& problems_;
  bool is_good_ = true;
};

std::vector<std::string> read_header(const std::vector<std::string>& cells,
                                     const std::string& place, std::vector<std::string>& problems) {
  for (size_t i = 0; i < cells.size(); ++i) {
    if (std::find(std::begin(kColumns), std::end(kColumns), cells[i]) == std::end(kColumns))
      problems.push_back(fmt::format("{}: unknown column '{}'; the columns are {}", place, cells[i],
                                     fmt::join(kColumns, ", ")));
    if (std::find(cells.begin(), cells.begin() + i, cells[i]) != cells.begin() + i)
      problems.push_back(fmt::format("{}: column '{}' is here twice", place, cells[i]));
  }
  for (const char* needed : {"what", "seconds"})
    if (std::find(cells.begin(), cells.end(), needed) == cells.end())
      problems.push_back(fmt::format("{}: no column '{}'; the first line names the columns: {}",
                                     place, needed, fmt::join(kColumns, ",")));
  return cells;
}

}  // namespace

const char* name_of(Measured what) {
  for (const LineRule& rule : rules())
    if (rule.what == what) return rule.name;
  return "?";
}

std::vector<Measurement> read_measurements(const std::string& text, const std::string& name) {
  std::vector<std::string> problems, columns;
  std::vector<Measurement> measurements;
  std::istringstream lines(text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string place = fmt::format("{}:{}", name, ++number);
    if (trimmed(line).empty() || trimmed(line).front() == '#') continue;
    const std::vector<std::string> cells = split(trimmed(line));
    if (columns.empty()) {
      columns = read_header(cells, place, problems);
      if (!problems.empty()) break;
      continue;
    }
    if (cells.size() != columns.size()) {
      problems.push_back(fmt::format("{}: {} cells, but the first line names {} columns", place,
                                     cells.size(), columns.size()));
      continue;
    }
    std::map<std::string, std::string> by_column;
    for (const char* column : kColumns) by_column[column];
    for (size_t i = 0; i < cells.size(); ++i) by_column[columns[i]] = cells[i];
    if (const auto measurement = Line(place, std::move(by_column), problems).read())
      measurements.push_back(*measurement);
  }
  if (columns.empty())
    problems.push_back(fmt::format("{}: no lines; the first line names the columns: {}", name,
                                   fmt::join(kColumns, ",")));
  if (!problems.empty()) throw DataError(fmt::format("{}", fmt::join(problems, "\n")));
  return measurements;
}

std::vector<Measurement> load_measurements(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || file.bad())
    throw DataError(fmt::format("cannot read measurements {}: {}", path, std::strerror(errno)));
  return read_measurements(text.str(), path);
}

}  // namespace strait
