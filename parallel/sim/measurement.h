// parallel/sim/measurement.h: timings of one device and its links, read from a CSV file.
//
// The first line names the columns, in any order; each other line is one timing. Empty lines and
// lines that start with # are passed over. All numbers are in seconds, bytes and FLOPs.
//
//   what,precision,m,n,k,groups,flops,bytes,alone_seconds,seconds
//   dense_gemm,fp8,4096,7168,2048,,,,,1.03e-4
//   far_message,,,,,,,65536,,1.5e-5
//
// measurement_kinds() says which cells each kind of line has; recipes/REFERENCE.md shows it.
// Every line has what and seconds. precision is fp32, bf16 or fp8.
#pragma once

#include <string>
#include <vector>

#include "parallel/sim/cluster.h"

namespace strait {

enum class Measured : uint8_t {
  launch,
  dense_gemm,
  grouped_gemm,
  weight_gradient,
  attention_forward,
  attention_backward,
  elementwise,
  far_message,
  near_message,
  far_exchange,
  near_exchange,
  under_exchange,
  commit,
};
const char* name_of(Measured what);

// What each kind of line needs and may have, beside what and seconds.
struct MeasurementKind {
  Measured what;
  const char* name;
  const char* doc;  // one line
  std::vector<std::string> needs = {}, may = {};
};
const std::vector<MeasurementKind>& measurement_kinds();

struct Measurement {
  Measured what = Measured::launch;
  Precision precision = Precision::bf16;
  GemmShape shape = {};
  double flops = 0, bytes = 0;
  double alone_seconds = 0, seconds = 0;
  std::string place = {};  // file:line
};

// Errors: DataError with every line that cannot be understood, each with its file and line.
std::vector<Measurement> read_measurements(const std::string& text, const std::string& name);
std::vector<Measurement> load_measurements(const std::string& path);

}  // namespace strait
