// parallel/sim/cluster.h: what pricing and simulation need to know of a cluster, and the one set of
// formulas that turns it into seconds. All figures are in bytes, seconds, FLOP/s and dollars, and
// of one rank (one device). A cluster file says each with its unit and its source
// (recipes/cluster.h); calibrate.h fits them from measurements by the same formulas.
// Pure data and pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "core/settings.h"

namespace strait {

enum class Precision : uint8_t { fp32, bf16, fp8 };
enum class GemmKind : uint8_t { dense, grouped, weight_gradient };
const char* name_of(Precision precision);
const char* name_of(GemmKind kind);

// Where a figure comes from.
struct FigureSource {
  std::string text;    // as written: "50 GB/s"
  std::string source;  // "DeepSeek-V3 report, section 3.2.2"; never empty
  std::string place;   // file:line
};

struct Cluster {
  std::string name = {};
  std::string description = {};  // one line
  int64_t nodes = 0;
  int64_t ranks_per_node = 0;

  // Dense peaks. fp8_peak 0: the device has no FP8.
  double bf16_peak = 0, fp8_peak = 0, fp32_peak = 0;
  double memory = 0, memory_bandwidth = 0;
  // Multiprocessors of a GPU (1 of a CPU), and how many of them a running exchange takes from
  // compute. A fraction stands for part of a core.
  double cores = 1, exchange_cores = 0;
  // Of the one machine that all ranks share, as a cluster of network namespaces does; then `cores`
  // is what a rank takes of them. 0: every rank has its own.
  double machine_cores = 0;
  double launch_overhead = 0;  // seconds between two kernels in a row

  // GEMM arithmetic as a share of its precision's peak. The operands' way through memory is apart
  // (gemm_memory): short K costs more than long K at the same share. FP32 shares of 0: as BF16's.
  double dense_gemm_bf16 = 0, dense_gemm_fp8 = 0, dense_gemm_fp32 = 0;
  double grouped_gemm_bf16 = 0, grouped_gemm_fp8 = 0, grouped_gemm_fp32 = 0;
  double weight_gradient_bf16 = 0, weight_gradient_fp8 = 0, weight_gradient_fp32 = 0;
  double gemm_memory = 0;  // share of memory_bandwidth at which a GEMM's operands move
  // Of the peak of BF16, or of FP32 where activations are FP32; causal FLOPs only.
  double attention_forward = 0, attention_backward = 0;
  double elementwise = 0;  // share of memory_bandwidth that norms, SwiGLU, casts, permutes reach

  // Links, per rank and direction. Latency is from the first byte's departure to its arrival, with
  // what software adds; framing is the share of a link's bytes that is not payload.
  double card_bandwidth = 0, card_latency = 0, card_framing = 0;        // between nodes
  double fabric_bandwidth = 0, fabric_latency = 0, fabric_framing = 0;  // inside a node
  // Share of the framed bandwidth that dispatch and combine reach alone.
  double far_exchange = 0, near_exchange = 0;

  double commit_latency = 0;  // of one all-reduce of a few numbers over all ranks
  double price = 0;           // dollars for an hour of one device

  std::map<std::string, FigureSource> sources = {};  // by key

  int64_t ranks() const { return nodes * ranks_per_node; }
};

const SettingsTable& table_of(const Cluster*);

// A figure by its key; InternalError if the table has no such real number.
double& figure_of(Cluster& cluster, const std::string& key);
double figure_of(const Cluster& cluster, const std::string& key);

// Arithmetic peak, FLOP/s. FP8 of a device without: the BF16 peak.
double peak_flops(const Cluster& cluster, Precision precision);

// C[m, n] = A[m, k] B[k, n], `groups` times. A weight gradient has k = tokens and adds to FP32.
struct GemmShape {
  int64_t m = 0, n = 0, k = 0;
  int64_t groups = 1;
  double flops() const { return 2.0 * double(m) * double(n) * double(k) * double(groups); }
};
// Operands read once, result written once: BF16 (FP32 in FP32), or FP32 read and written by a
// weight gradient.
double gemm_bytes(GemmKind kind, Precision precision, const GemmShape& shape);

// Alone on all cores: arithmetic at its share of the peak plus the operands' bytes at theirs, and
// one launch. Fitted to DeepGEMM's published H800 table (19 shapes) it misses 5.5% in root mean
// square and 12% at most (N = 2112, uneven tiles).
double gemm_seconds(const Cluster& cluster, GemmKind kind, Precision precision,
                    const GemmShape& shape);
// `flops` of the causal half. FP8: attention itself stays in BF16.
double attention_seconds(const Cluster& cluster, Precision precision, double flops, bool backward);
// Of element-wise work that moves so many bytes, read and written.
double elementwise_seconds(const Cluster& cluster, double bytes);

// Share of its speed that compute keeps while an exchange runs: what the exchange's cores leave.
double compute_share_under_exchange(const Cluster& cluster);

// Payload bytes per second of one rank, alone.
double far_exchange_rate(const Cluster& cluster);
double near_exchange_rate(const Cluster& cluster);
double far_message_rate(const Cluster& cluster);  // plain messages and collectives
double near_message_rate(const Cluster& cluster);

}  // namespace strait
