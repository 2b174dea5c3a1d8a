// parallel/sim/calibrate.h: a cluster's figures from measurements, by least squares.
//
// The formulas are those of cluster.h, which are linear in the inverse of every share and rate, so
// each group of figures is one linear least-squares problem in relative errors: the GEMM shares of
// all kinds and precisions together with gemm_memory; latency and bandwidth of a link together; the
// rest one by one. A share that would come out above 1, or a latency below 0, is held at that bound
// and the others fit anew.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "parallel/sim/cluster.h"
#include "parallel/sim/measurement.h"

namespace strait {

struct FittedFigure {
  std::string key;
  bool fitted = false;
  double base = 0, value = 0;  // equal when not fitted
  int num_points = 0;          // measurements that say something of it
  double residual = 0;         // root mean square of predicted / measured - 1
  double worst = 0;            // of the same, by size, with its sign
  std::string worst_place = {};
  std::string note = {};  // why it was kept, or at which bound it is held
};

struct Calibration {
  Cluster cluster;  // the base with what was fitted; its sources name the measurements
  std::vector<FittedFigure> figures;     // those with measurements, in the order of the table
  std::vector<std::string> passed_over;  // measurements that cannot be, with their place
};

// `file` names the measurements in sources. Figures without measurements, or with too few, keep the
// base's value. Peaks, memory_bandwidth, framings and cores are always the base's.
Calibration calibrate(const Cluster& base, std::span<const Measurement> measurements,
                      const std::string& file);

// Seconds the cluster's figures predict for what was measured.
double predicted_seconds(const Cluster& cluster, const Measurement& measurement);

}  // namespace strait
