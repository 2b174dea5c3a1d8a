#include "parallel/sim/calibrate.h"

#include <fmt/format.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "core/errors.h"

namespace strait {
namespace {

GemmKind gemm_kind(Measured what) {
  switch (what) {
    case Measured::grouped_gemm:
      return GemmKind::grouped;
    case Measured::weight_gradient:
      return GemmKind::weight_gradient;
    default:
      return GemmKind::dense;
  }
}

bool is_gemm(Measured what) {
  return what == Measured::dense_gemm || what == Measured::grouped_gemm ||
         what == Measured::weight_gradient;
}

// "dense_gemm_fp8"
std::string gemm_key(const Measurement& m) {
  return fmt::format("{}_{}", name_of(gemm_kind(m.what)), name_of(m.precision));
}

struct Solution {
  Eigen::VectorXd values;
  std::vector<bool> held;
};

// The values >= lower for which columns * values comes closest to `seconds`, in relative errors.
// Active set: what falls below its bound is held there, the worst first, and the rest fit anew.
Solution solve_above(const Eigen::MatrixXd& columns, const Eigen::VectorXd& seconds,
                     const Eigen::VectorXd& lower) {
  const Eigen::VectorXd weight = seconds.cwiseInverse();
  const Eigen::MatrixXd weighted = weight.asDiagonal() * columns;
  Solution solution{.values = lower, .held = std::vector<bool>(size_t(lower.size()), false)};
  for (Eigen::Index round = 0; round <= lower.size(); ++round) {
    Eigen::VectorXd target = Eigen::VectorXd::Ones(seconds.size());
    std::vector<Eigen::Index> open;
    for (Eigen::Index i = 0; i < lower.size(); ++i) {
      if (solution.held[size_t(i)]) {
        target -= weighted.col(i) * lower[i];
      } else {
        open.push_back(i);
      }
    }
    if (open.empty()) break;
    const Eigen::VectorXd found = weighted(Eigen::all, open).colPivHouseholderQr().solve(target);
    Eigen::Index worst = -1;
    double deepest = 0;
    for (size_t j = 0; j < open.size(); ++j) {
      const double below = lower[open[j]] - found[Eigen::Index(j)];
      solution.values[open[j]] = std::max(found[Eigen::Index(j)], lower[open[j]]);
      const double scale = std::max(std::abs(lower[open[j]]), 1e-300);
      if (below > 0 && (worst < 0 || below / scale > deepest)) {
        worst = open[j];
        deepest = below / scale;
      }
    }
    if (worst < 0) break;
    solution.held[size_t(worst)] = true;
  }
  return solution;
}

// How much of a column the others cannot express, 0 (none) to 1, in relative errors.
double independence(const Eigen::MatrixXd& columns, const Eigen::VectorXd& seconds,
                    Eigen::Index column) {
  const Eigen::MatrixXd weighted = seconds.cwiseInverse().asDiagonal() * columns;
  std::vector<Eigen::Index> others;
  for (Eigen::Index i = 0; i < columns.cols(); ++i)
    if (i != column) others.push_back(i);
  const Eigen::VectorXd target = weighted.col(column);
  if (others.empty()) return 1;
  const Eigen::MatrixXd rest = weighted(Eigen::all, others);
  return (target - rest * rest.colPivHouseholderQr().solve(target)).norm() / target.norm();
}

// Below this the measurements' shapes are too alike to tell two figures apart.
constexpr double kLeastIndependence = 0.05;

class Calibrator {
 public:
  Calibrator(const Cluster& base, std::span<const Measurement> all, std::string file)
      : base_(base), cluster_(base), all_(all), file_(std::move(file)) {}

  Calibration run() {
    fit_constant(Measured::launch, "launch_overhead");
    fit_gemms();
    for (const bool backward : {false, true})
      fit_share(backward ? Measured::attention_backward : Measured::attention_forward,
                backward ? "attention_backward" : "attention_forward",
                [this, backward](const Measurement& m, const Cluster& with) {
                  return attention_seconds(with, m.precision, m.flops, backward) -
                         cluster_.launch_overhead;
                });
    fit_share(Measured::elementwise, "elementwise",
              [this](const Measurement& m, const Cluster& with) {
                return elementwise_seconds(with, m.bytes) - cluster_.launch_overhead;
              });
    fit_link(Measured::far_message, "card");
    fit_link(Measured::near_message, "fabric");
    fit_exchange(Measured::far_exchange, "far_exchange", "card_latency");
    fit_exchange(Measured::near_exchange, "near_exchange", "fabric_latency");
    fit_exchange_cores();
    fit_constant(Measured::commit, "commit_latency");
    return finish();
  }

 private:
  using Points = std::vector<const Measurement*>;

  Points points_of(const std::function<bool(const Measurement&)>& belongs) const {
    Points points;
    for (const Measurement& m : all_)
      if (belongs(m)) points.push_back(&m);
    return points;
  }
  Points points_of(Measured what) const {
    return points_of([what](const Measurement& m) { return m.what == what; });
  }

  static Eigen::VectorXd seconds_of(const Points& points, double less = 0) {
    Eigen::VectorXd seconds(Eigen::Index(points.size()));
    for (size_t i = 0; i < points.size(); ++i) seconds[Eigen::Index(i)] = points[i]->seconds - less;
    return seconds;
  }

  void set(const std::string& key, double value, const Points& points, std::string note = "") {
    figure_of(cluster_, key) = value;
    results_[key] = {.key = key, .fitted = true, .note = std::move(note)};
    points_[key] = points;
  }
  void keep(const std::string& key, const Points& points, const std::string& why) {
    if (points.empty()) return;
    results_[key] = {.key = key, .note = why};
    points_[key] = points;
  }
  static bool enough(const Points& points, size_t least) { return points.size() >= least; }
  static std::string too_few(const Points& points, size_t least) {
    return fmt::format("{} point{}, needs {}", points.size(), points.size() == 1 ? "" : "s", least);
  }

  // One figure that is the measured time itself.
  void fit_constant(Measured what, const std::string& key) {
    const Points points = points_of(what);
    if (!enough(points, 2)) return keep(key, points, too_few(points, 2));
    const Eigen::VectorXd seconds = seconds_of(points);
    const Eigen::MatrixXd ones = Eigen::MatrixXd::Ones(seconds.size(), 1);
    set(key, solve_above(ones, seconds, Eigen::VectorXd::Zero(1)).values[0], points);
  }

  // Those that take longer than what every one of them takes at least.
  Points longer_than(double least, const std::string& what, Points points) {
    std::erase_if(points, [&](const Measurement* m) {
      if (m->seconds > least) return false;
      passed_over_.push_back(fmt::format("{}: {}: {} s is not longer than {} = {} s", m->place,
                                         name_of(m->what), m->seconds, what, least));
      return true;
    });
    return points;
  }
  Points without_launch(const Points& points) {
    return longer_than(cluster_.launch_overhead, "launch_overhead", points);
  }

  // One share: its time at share 1 is known, and grows with its inverse.
  void fit_share(Measured what, const std::string& key,
                 const std::function<double(const Measurement&, const Cluster&)>& seconds_alone) {
    const Points points = without_launch(points_of(what));
    if (!enough(points, 2)) return keep(key, points, too_few(points, 2));
    Cluster whole = cluster_;
    figure_of(whole, key) = 1;
    Eigen::MatrixXd column(Eigen::Index(points.size()), 1);
    for (size_t i = 0; i < points.size(); ++i)
      column(Eigen::Index(i), 0) = seconds_alone(*points[i], whole);
    const Solution found =
        solve_above(column, seconds_of(points, cluster_.launch_overhead), Eigen::VectorXd::Ones(1));
    set(key, 1 / found.values[0], points, found.held[0] ? "held at 1, it came out above" : "");
  }

  void fit_gemms();
  void fit_link(Measured what, const std::string& link);
  void fit_exchange(Measured what, const std::string& key, const std::string& latency_key);
  void fit_exchange_cores();
  Calibration finish();

  const Cluster& base_;
  Cluster cluster_;
  const std::span<const Measurement> all_;
  const std::string file_;
  std::map<std::string, FittedFigure> results_;
  std::map<std::string, Points> points_;
  std::vector<std::string> passed_over_;
};

// seconds - launch = sum over kinds of (1/share) flops/peak + (1/gemm_memory) bytes/bandwidth.
void Calibrator::fit_gemms() {
  std::map<std::string, Points> by_key;
  for (const Measurement* m :
       without_launch(points_of([](const Measurement& m) { return is_gemm(m.what); })))
    by_key[gemm_key(*m)].push_back(m);
  Points points;
  std::vector<std::string> keys;
  for (const auto& [key, own] : by_key) {
    if (own.front()->precision == Precision::fp8 && base_.fp8_peak == 0) {
      keep(key, own, "the base has no fp8_peak");
    } else if (!enough(own, 2)) {
      keep(key, own, too_few(own, 2));
    } else {
      keys.push_back(key);
      points.insert(points.end(), own.begin(), own.end());
    }
  }
  if (keys.empty()) return;
  const Eigen::Index rows = Eigen::Index(points.size()), kinds = Eigen::Index(keys.size());
  Eigen::MatrixXd columns = Eigen::MatrixXd::Zero(rows, kinds + 1);
  for (Eigen::Index i = 0; i < rows; ++i) {
    const Measurement& m = *points[size_t(i)];
    const auto key = std::find(keys.begin(), keys.end(), gemm_key(m)) - keys.begin();
    columns(i, key) = m.shape.flops() / peak_flops(cluster_, m.precision);
    columns(i, kinds) =
        gemm_bytes(gemm_kind(m.what), m.precision, m.shape) / cluster_.memory_bandwidth;
  }
  Eigen::VectorXd seconds = seconds_of(points, cluster_.launch_overhead);
  const bool memory_is_seen =
      rows >= kinds + 2 && independence(columns, seconds, kinds) >= kLeastIndependence;
  if (!memory_is_seen) {
    keep("gemm_memory", points,
         rows < kinds + 2 ? too_few(points, size_t(kinds) + 2)
                          : "the shapes are too alike to tell it from the arithmetic");
    // Its part is taken from the base; what is left is arithmetic.
    seconds -= columns.col(kinds) / cluster_.gemm_memory;
    columns.conservativeResize(rows, kinds);
    if (seconds.minCoeff() <= 0) {
      for (const std::string& key : keys)
        keep(key, by_key[key], "the base's gemm_memory alone takes longer than was measured");
      return;
    }
  }
  const Solution found = solve_above(columns, seconds, Eigen::VectorXd::Ones(columns.cols()));
  for (Eigen::Index i = 0; i < columns.cols(); ++i)
    set(i < kinds ? keys[size_t(i)] : "gemm_memory", 1 / found.values[i],
        i < kinds ? by_key[keys[size_t(i)]] : points,
        found.held[size_t(i)] ? "held at 1, it came out above" : "");
}

// seconds = latency + bytes / rate.
void Calibrator::fit_link(Measured what, const std::string& link) {
  const Points points = points_of(what);
  const std::string latency_key = link + "_latency", bandwidth_key = link + "_bandwidth";
  const auto keep_both = [&](const std::string& why) {
    keep(latency_key, points, why);
    keep(bandwidth_key, points, why);
  };
  if (!enough(points, 3)) return keep_both(too_few(points, 3));
  Eigen::MatrixXd columns(Eigen::Index(points.size()), 2);
  for (size_t i = 0; i < points.size(); ++i) columns.row(Eigen::Index(i)) << 1, points[i]->bytes;
  const Eigen::VectorXd seconds = seconds_of(points);
  if (independence(columns, seconds, 0) < kLeastIndependence ||
      independence(columns, seconds, 1) < kLeastIndependence)
    return keep_both("the sizes are too alike to tell latency from bandwidth");
  const Solution found = solve_above(columns, seconds, Eigen::VectorXd::Zero(2));
  if (found.values[1] <= 0) return keep_both("larger messages are not slower");
  const double framing = figure_of(cluster_, link + "_framing");
  set(latency_key, found.values[0], points, found.held[0] ? "held at 0, it came out below" : "");
  set(bandwidth_key, 1 / found.values[1] / (1 - framing), points);
}

// seconds - latency = bytes / (rate x share).
void Calibrator::fit_exchange(Measured what, const std::string& key,
                              const std::string& latency_key) {
  const double latency = figure_of(cluster_, latency_key);
  const Points points = longer_than(latency, latency_key, points_of(what));
  if (!enough(points, 2)) return keep(key, points, too_few(points, 2));
  const double rate =
      what == Measured::far_exchange ? far_message_rate(cluster_) : near_message_rate(cluster_);
  Eigen::MatrixXd column(Eigen::Index(points.size()), 1);
  for (size_t i = 0; i < points.size(); ++i) column(Eigen::Index(i), 0) = points[i]->bytes / rate;
  const Solution found = solve_above(column, seconds_of(points, latency), Eigen::VectorXd::Ones(1));
  set(key, 1 / found.values[0], points, found.held[0] ? "held at 1, it came out above" : "");
}

// seconds = alone / (1 - exchange_cores / cores).
void Calibrator::fit_exchange_cores() {
  const Points points = points_of(Measured::under_exchange);
  if (!enough(points, 2)) return keep("exchange_cores", points, too_few(points, 2));
  Eigen::MatrixXd column(Eigen::Index(points.size()), 1);
  for (size_t i = 0; i < points.size(); ++i) column(Eigen::Index(i), 0) = points[i]->alone_seconds;
  const Solution found = solve_above(column, seconds_of(points), Eigen::VectorXd::Ones(1));
  set("exchange_cores", (1 - 1 / found.values[0]) * cluster_.cores, points,
      found.held[0] ? "held at 0, it came out below" : "");
}

Calibration Calibrator::finish() {
  Calibration calibration{.cluster = cluster_, .figures = {}, .passed_over = passed_over_};
  for (const Field& field : table_of(&cluster_)) {
    const auto found = results_.find(field.name);
    if (found == results_.end()) continue;
    FittedFigure figure = found->second;
    const Points& points = points_[figure.key];
    figure.base = figure_of(base_, figure.key);
    figure.value = figure_of(cluster_, figure.key);
    figure.num_points = static_cast<int>(points.size());
    double squares = 0;
    for (const Measurement* m : points) {
      if (m->precision == Precision::fp8 && is_gemm(m->what) && base_.fp8_peak == 0) continue;
      const double miss = predicted_seconds(cluster_, *m) / m->seconds - 1;
      squares += miss * miss;
      if (std::abs(miss) < std::abs(figure.worst)) continue;
      figure.worst = miss;
      figure.worst_place = m->place;
    }
    figure.residual = std::sqrt(squares / double(points.size()));
    if (figure.fitted) {
      FigureSource& source = calibration.cluster.sources[figure.key];
      source = {.text = "",
                .source = fmt::format("measured: {} points, residual {:.2g}%, {}{}",
                                      figure.num_points, 100 * figure.residual, file_,
                                      figure.note.empty() ? "" : "; " + figure.note),
                .place = file_};
    }
    calibration.figures.push_back(std::move(figure));
  }
  return calibration;
}

}  // namespace

double predicted_seconds(const Cluster& cluster, const Measurement& m) {
  switch (m.what) {
    case Measured::launch:
      return cluster.launch_overhead;
    case Measured::dense_gemm:
    case Measured::grouped_gemm:
    case Measured::weight_gradient:
      return gemm_seconds(cluster, gemm_kind(m.what), m.precision, m.shape);
    case Measured::attention_forward:
    case Measured::attention_backward:
      return attention_seconds(cluster, m.precision, m.flops,
                               m.what == Measured::attention_backward);
    case Measured::elementwise:
      return elementwise_seconds(cluster, m.bytes);
    case Measured::far_message:
      return cluster.card_latency + m.bytes / far_message_rate(cluster);
    case Measured::near_message:
      return cluster.fabric_latency + m.bytes / near_message_rate(cluster);
    case Measured::far_exchange:
      return cluster.card_latency + m.bytes / far_exchange_rate(cluster);
    case Measured::near_exchange:
      return cluster.fabric_latency + m.bytes / near_exchange_rate(cluster);
    case Measured::under_exchange:
      return m.alone_seconds / compute_share_under_exchange(cluster);
    case Measured::commit:
      return cluster.commit_latency;
  }
  return 0;
}

Calibration calibrate(const Cluster& base, std::span<const Measurement> measurements,
                      const std::string& file) {
  return Calibrator(base, measurements, file).run();
}

}  // namespace strait
