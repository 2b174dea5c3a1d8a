#include "recipes/cluster.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "core/errors.h"
#include "recipes/document.h"
#include "recipes/quantity.h"
#include "recipes/reader.h"
#include "recipes/reference.h"

namespace strait {
namespace {

namespace fs = std::filesystem;

const DocumentKind kCluster = {
    .noun = "cluster",
    .content = "figures like 'nodes: {value: 4, source: ...}'",
    .merges_sections = false,
};

const Field* find_figure(const std::string& key) {
  for (const Field& field : table_of(static_cast<const Cluster*>(nullptr)))
    if (key == field.name && field.sourced) return &field;
  return nullptr;
}

double value_of_figure(const Field& field, const Cluster& cluster) {
  const FieldValue value = field.value(const_cast<Cluster*>(&cluster));
  if (const auto* integer = std::get_if<int64_t*>(&value)) return static_cast<double>(**integer);
  return *std::get<double*>(value);
}

// What the table cannot say about one key alone.
void check_cluster(const Cluster& cluster, const KeyPlaces& places, Problems& problems) {
  const auto require = [&](bool kept, const std::string& key, const std::string& text) {
    if (!kept) add_problem(problems, places.of(key), fmt::format("{}: {}", key, text));
  };
  require(cluster.exchange_cores < cluster.cores, "exchange_cores",
          fmt::format("{} leave nothing of cores = {} to compute", cluster.exchange_cores,
                      cluster.cores));
  for (const char* key : {"dense_gemm_fp8", "grouped_gemm_fp8", "weight_gradient_fp8"}) {
    const bool is_said = cluster.sources.contains(key);
    const Field& field = *find_figure(key);
    if (cluster.fp8_peak == 0) {
      require(!is_said, key,
              "is a share of fp8_peak, which is not said; say it, or leave this out");
    } else {
      require(is_said && value_of_figure(field, cluster) > 0, key,
              is_said ? "0 is out of range (above 0, at most 1)"
                      : fmt::format("missing: fp8_peak is said. {}", field.doc));
    }
  }
}

Cluster finish(Document document, const std::string& name) {
  if (document.tree.kind != YamlNode::Kind::map) document.tree = {.kind = YamlNode::Kind::map};
  Cluster cluster;
  KeyPlaces places{.file = name, .at = {}};
  std::map<std::string, WrittenFigure> figures;
  read_settings(document.tree, document.incomplete, {&cluster, &table_of(&cluster)},
                {.places = places, .problems = document.problems, .figures = &figures});
  for (const auto& [key, written] : figures)
    cluster.sources[key] = {
        .text = written.text, .source = written.source, .place = places.of(key)};
  if (cluster.name.empty()) cluster.name = fs::path(name).stem().string();
  if (document.problems.empty()) check_cluster(cluster, places, document.problems);
  if (!document.problems.empty()) throw_problems(std::move(document.problems));
  return cluster;
}

}  // namespace

std::string cluster_path(const std::string& name) {
  return fmt::format("{}/{}.yaml", STRAIT_CLUSTERS, name);
}

std::vector<std::string> cluster_names() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(STRAIT_CLUSTERS, error))
    if (entry.path().extension() == ".yaml") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

Cluster load_cluster(const std::string& path_or_name) {
  std::error_code error;
  const std::vector<std::string> names = cluster_names();
  const bool is_file = fs::exists(path_or_name, error);
  const bool is_name = std::find(names.begin(), names.end(), path_or_name) != names.end();
  if (!is_file && !is_name && path_or_name.find('/') == std::string::npos &&
      !path_or_name.ends_with(".yaml")) {
    const std::string meant = closest_name(path_or_name, names);
    throw RecipeError(fmt::format(
        "no cluster '{}'{}; a cluster is a file, or one of: {}", path_or_name,
        meant.empty() ? "" : fmt::format(", did you mean '{}'?", meant), fmt::join(names, ", ")));
  }
  const std::string path = is_file || !is_name ? path_or_name : cluster_path(path_or_name);
  return finish(load_document(path, kCluster), path);
}

Cluster read_cluster(const std::string& text, const std::string& name) {
  return finish(read_document(text, name, kCluster), name);
}

std::string figure_text(const Cluster& cluster, const std::string& key) {
  const Field* field = find_figure(key);
  STRAIT_CHECK(field != nullptr, fmt::format("no figure '{}'", key));
  const double value = value_of_figure(*field, cluster);
  const auto source = cluster.sources.find(key);
  if (source != cluster.sources.end()) {
    const auto written = read_quantity(source->second.text, field->unit);
    if (const double* read = std::get_if<double>(&written); read && *read == value)
      return source->second.text;
  }
  return quantity_text(value, field->unit);
}

std::string to_yaml(const Cluster& cluster) {
  std::string out;
  size_t width = 0;
  for (const Field& field : table_of(&cluster))
    width = std::max(width, std::string(field.name).size());
  for (const Field& field : table_of(&cluster)) {
    if (!field.sourced) {
      std::string text = *std::get<std::string*>(field.value(const_cast<Cluster*>(&cluster)));
      out += fmt::format("{}: {}\n", field.name, value_text(FieldValue(&text)));
    } else if (const auto source = cluster.sources.find(field.name);
               source != cluster.sources.end()) {
      std::string text = source->second.source;
      text = value_text(FieldValue(&text));
      out += fmt::format("{:<{}} {{value: {}, source: {}}}\n", std::string(field.name) + ":",
                         width + 1, figure_text(cluster, field.name), text);
    }
  }
  return out;
}

}  // namespace strait
