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
    const MeasurementKind* kind = nullptr;
    std::vector<std::string> names;
    for (const MeasurementKind& candidate : measurement_kinds()) {
      names.emplace_back(candidate.name);
      if (cells_["what"] == candidate.name) kind = &candidate;
    }
    if (kind == nullptr) {
      problem(fmt::format("what: expected one of {}, got '{}'", fmt::join(names, ", "),
                          cells_["what"]));
      return std::nullopt;
    }
    check_cells(*kind);
    Measurement got{.what = kind->what, .place = place_};
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

  void check_cells(const MeasurementKind& kind) {
    for (const auto& [column, cell] : cells_) {
      const auto is_in = [&](const std::vector<std::string>& list) {
        return std::find(list.begin(), list.end(), column) != list.end();
      };
      const bool needed = column == "what" || column == "seconds" || is_in(kind.needs);
      if (needed && cell.empty()) problem(fmt::format("{}: {} needs it", column, kind.name));
      if (!needed && !is_in(kind.may) && !cell.empty())
        problem(fmt::format("{}: {} has none, got '{}'", column, kind.name, cell));
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

const std::vector<MeasurementKind>& measurement_kinds() {
  using M = Measured;
  static const std::vector<MeasurementKind> all = {
      {M::launch, "launch", "One empty kernel in a queue of them."},
      {M::dense_gemm, "dense_gemm", "C[m, n] = A[m, k] B[k, n].", {"precision", "m", "n", "k"}},
      {M::grouped_gemm,
       "grouped_gemm",
       "The same groups times in one call; m is of one group.",
       {"precision", "m", "n", "k", "groups"}},
      {M::weight_gradient,
       "weight_gradient",
       "k = tokens, added to FP32.",
       {"precision", "m", "n", "k"},
       {"groups"}},
      {M::attention_forward,
       "attention_forward",
       "FLOPs of the causal half.",
       {"precision", "flops"}},
      {M::attention_backward,
       "attention_backward",
       "FLOPs of the causal half.",
       {"precision", "flops"}},
      {M::elementwise, "elementwise", "Bytes read and written together.", {"bytes"}},
      {M::far_message,
       "far_message",
       "One message between two nodes, from start to arrival.",
       {"bytes"}},
      {M::near_message, "near_message", "The same inside a node.", {"bytes"}},
      {M::far_exchange,
       "far_exchange",
       "Dispatch or combine: bytes that one rank sent to other nodes.",
       {"bytes"}},
      {M::near_exchange, "near_exchange", "The same inside a node.", {"bytes"}},
      {M::under_exchange,
       "under_exchange",
       "Compute while an exchange runs all along; alone_seconds without one.",
       {"alone_seconds"}},
      {M::commit, "commit", "One all-reduce of a few numbers over all ranks."},
  };
  return all;
}

const char* name_of(Measured what) {
  for (const MeasurementKind& kind : measurement_kinds())
    if (kind.what == what) return kind.name;
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
