#include "launch/commands/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "parallel/sim/calibrate.h"
#include "parallel/sim/measurement.h"
#include "recipes/cluster.h"
#include "recipes/quantity.h"

namespace strait {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

double number_of(const Field& field, Cluster& cluster) {
  const FieldValue value = field.value(&cluster);
  if (const auto* integer = std::get_if<int64_t*>(&value)) return static_cast<double>(**integer);
  return *std::get<double*>(value);
}

const char* unit_of(const std::string& key) {
  for (const Field& field : table_of(static_cast<const Cluster*>(nullptr)))
    if (key == field.name) return field.unit;
  return "";
}

std::string table_of_figures(Cluster& cluster) {
  size_t key_width = 0, text_width = 0;
  for (const Field& field : table_of(&cluster)) {
    if (!cluster.sources.contains(field.name)) continue;
    key_width = std::max(key_width, std::string(field.name).size());
    text_width = std::max(text_width, figure_text(cluster, field.name).size());
  }
  std::string out =
      fmt::format("{}: {}\n{} ranks\n\n", cluster.name, cluster.description, cluster.ranks());
  for (const Field& field : table_of(&cluster))
    if (const auto source = cluster.sources.find(field.name); source != cluster.sources.end())
      out += fmt::format("{:<{}}  {:>{}}  {}\n", field.name, key_width,
                         figure_text(cluster, field.name), text_width, source->second.source);
  return out;
}

Json json_of(Cluster& cluster) {
  Json figures = Json::object();
  for (const Field& field : table_of(&cluster))
    if (const auto source = cluster.sources.find(field.name); source != cluster.sources.end())
      figures[field.name] = {{"value", number_of(field, cluster)},
                             {"unit", field.unit},
                             {"text", figure_text(cluster, field.name)},
                             {"source", source->second.source},
                             {"meaning", field.doc}};
  return {{"name", cluster.name},
          {"description", cluster.description},
          {"ranks", cluster.ranks()},
          {"figures", figures}};
}

void print_json(const Json& json) {
  fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::string percent(double share) { return fmt::format("{:.2g}%", 100 * share); }

void print_fit(const Calibration& calibration) {
  fmt::print("{:<20} {:>14} {:>14} {:>7} {:>9}  {}\n", "figure", "base", "fitted", "points",
             "residual", "worst, predicted against measured");
  for (const FittedFigure& figure : calibration.figures) {
    const std::string unit = unit_of(figure.key);
    const std::string base = quantity_text(figure.base, unit, 4);
    if (!figure.fitted) {
      fmt::print("{:<20} {:>14} {:>14} {:>7}  kept: {}\n", figure.key, base, "-", figure.num_points,
                 figure.note);
      continue;
    }
    fmt::print("{:<20} {:>14} {:>14} {:>7} {:>9}  {:+.2g}% at {}{}\n", figure.key, base,
               quantity_text(figure.value, unit, 4), figure.num_points, percent(figure.residual),
               100 * figure.worst, figure.worst_place,
               figure.note.empty() ? "" : "; " + figure.note);
  }
  for (const std::string& place : calibration.passed_over) fmt::print("passed over: {}\n", place);
}

Json json_of(const Calibration& calibration) {
  Json figures = Json::array();
  for (const FittedFigure& f : calibration.figures)
    figures.push_back({{"key", f.key},
                       {"fitted", f.fitted},
                       {"unit", unit_of(f.key)},
                       {"base", f.base},
                       {"value", f.value},
                       {"points", f.num_points},
                       {"residual", f.residual},
                       {"worst", f.worst},
                       {"worst_place", f.worst_place},
                       {"note", f.note}});
  return {{"figures", figures}, {"passed_over", calibration.passed_over}};
}

}  // namespace

int run_cluster_show(const ClusterShowOptions& options) {
  Cluster cluster = load_cluster(options.cluster);
  if (options.json) {
    print_json(json_of(cluster));
  } else {
    fmt::print("{}", table_of_figures(cluster));
  }
  return 0;
}

int run_cluster_list(bool json) {
  Json all = Json::array();
  for (const std::string& name : cluster_names()) {
    const Cluster cluster = load_cluster(name);
    if (json) {
      all.push_back({{"name", name},
                     {"description", cluster.description},
                     {"ranks", cluster.ranks()},
                     {"file", cluster_path(name)}});
    } else {
      fmt::print("{:<18} {:>5} ranks  {}\n", name, cluster.ranks(), cluster.description);
    }
  }
  if (json) print_json(all);
  return 0;
}

int run_cluster_calibrate(const ClusterCalibrateOptions& options) {
  const Cluster base = load_cluster(options.base);
  const std::vector<Measurement> measurements = load_measurements(options.measurements);
  std::error_code error;
  if (!options.replace && fs::exists(options.out, error))
    throw RecipeError(
        fmt::format("--out: {} is there already; --replace writes over it", options.out));
  Calibration calibration = calibrate(base, measurements, options.measurements);
  calibration.cluster.name = fs::path(options.out).stem().string();
  std::ofstream file(options.out, std::ios::binary | std::ios::trunc);
  file << to_yaml(calibration.cluster) << std::flush;
  if (!file) throw DataError(fmt::format("cannot write {}: {}", options.out, std::strerror(errno)));
  if (options.json) {
    print_json(json_of(calibration));
  } else {
    print_fit(calibration);
    fmt::print("{}: written; what has no measurement is {}'s\n", options.out, base.name);
  }
  return 0;
}

}  // namespace strait
