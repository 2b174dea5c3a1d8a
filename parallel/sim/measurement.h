// parallel/sim/measurement.h: timings of one device and its links, read from a CSV file.
//
// The first line names the columns, in any order; each other line is one timing. Empty lines and
// lines that start with # are passed over. All numbers are in seconds, bytes and FLOPs.
//
//   what,precision,m,n,k,groups,flops,bytes,alone_seconds,seconds
//   dense_gemm,fp8,4096,7168,2048,,,,,1.03e-4
//   far_message,,,,,,,65536,,1.5e-5
//
//   what                needs                       is
//   launch              seconds                     one empty kernel in a queue of them
//   dense_gemm          precision, m, n, k          C[m, n] = A[m, k] B[k, n]
//   grouped_gemm        precision, m, n, k, groups  the same, groups times in one call; m of one
//   group weight_gradient     precision, m, n, k          k = tokens, added to FP32; groups if
//   grouped attention_forward   precision, flops            FLOPs of the causal half
//   attention_backward  precision, flops
//   elementwise         bytes                       bytes read and written together
//   far_message         bytes                       one message between two nodes, start to arrival
//   near_message        bytes                       the same inside a node
//   far_exchange        bytes                       dispatch or combine: bytes one rank sent to
//   other nodes near_exchange       bytes                       the same inside a node
//   under_exchange      alone_seconds               compute while an exchange runs all along, and
//   alone commit              seconds                     one all-reduce of a few numbers over all
//   ranks
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
