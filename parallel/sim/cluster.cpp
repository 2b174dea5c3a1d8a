#include "parallel/sim/cluster.h"

#include "core/errors.h"

namespace strait {
namespace {

constexpr FieldRange kPositive = {.min = 0, .max = 1e18, .min_open = true};
constexpr FieldRange kShare = {.min = 0, .max = 1, .min_open = true};

double element_bytes(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return 4;
    case Precision::bf16:
      return 2;
    case Precision::fp8:
      return 1;
  }
  return 0;
}

}  // namespace

const char* name_of(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return "fp32";
    case Precision::bf16:
      return "bf16";
    case Precision::fp8:
      return "fp8";
  }
  return "?";
}

const char* name_of(GemmKind kind) {
  switch (kind) {
    case GemmKind::dense:
      return "dense_gemm";
    case GemmKind::grouped:
      return "grouped_gemm";
    case GemmKind::weight_gradient:
      return "weight_gradient";
  }
  return "?";
}

double& figure_of(Cluster& cluster, const std::string& key) {
  for (const Field& field : table_of(&cluster)) {
    if (key != field.name) continue;
    const FieldValue value = field.value(&cluster);
    if (double* const* real = std::get_if<double*>(&value)) return **real;
  }
  throw_internal(__FILE__, __LINE__, "key is a figure", key);
}

double figure_of(const Cluster& cluster, const std::string& key) {
  return figure_of(const_cast<Cluster&>(cluster), key);
}

double peak_flops(const Cluster& cluster, Precision precision) {
  if (precision == Precision::fp32) return cluster.fp32_peak;
  return precision == Precision::fp8 && cluster.fp8_peak > 0 ? cluster.fp8_peak : cluster.bf16_peak;
}

double gemm_bytes(GemmKind kind, Precision precision, const GemmShape& shape) {
  const double m = double(shape.m), n = double(shape.n), k = double(shape.k);
  const double result =
      kind == GemmKind::weight_gradient ? 8 : (precision == Precision::fp32 ? 4 : 2);
  return double(shape.groups) * ((m * k + n * k) * element_bytes(precision) + m * n * result);
}

namespace {

double gemm_share(const Cluster& c, GemmKind kind, Precision precision) {
  const double shares[3][3] = {
      {c.dense_gemm_fp32, c.dense_gemm_bf16, c.dense_gemm_fp8},
      {c.grouped_gemm_fp32, c.grouped_gemm_bf16, c.grouped_gemm_fp8},
      {c.weight_gradient_fp32, c.weight_gradient_bf16, c.weight_gradient_fp8},
  };
  const double* const of_kind = shares[int(kind)];
  const double share = of_kind[int(precision)];
  const bool is_missing = precision == Precision::fp8 ? c.fp8_peak == 0 : share == 0;
  return is_missing ? of_kind[int(Precision::bf16)] : share;
}

}  // namespace

double gemm_seconds(const Cluster& cluster, GemmKind kind, Precision precision,
                    const GemmShape& shape) {
  const double arithmetic =
      shape.flops() / (peak_flops(cluster, precision) * gemm_share(cluster, kind, precision));
  const double moving =
      gemm_bytes(kind, precision, shape) / (cluster.memory_bandwidth * cluster.gemm_memory);
  return cluster.launch_overhead + arithmetic + moving;
}

double attention_seconds(const Cluster& cluster, Precision precision, double flops, bool backward) {
  const double peak =
      peak_flops(cluster, precision == Precision::fp8 ? Precision::bf16 : precision);
  const double share = backward ? cluster.attention_backward : cluster.attention_forward;
  return cluster.launch_overhead + flops / (peak * share);
}

double elementwise_seconds(const Cluster& cluster, double bytes) {
  return cluster.launch_overhead + bytes / (cluster.memory_bandwidth * cluster.elementwise);
}

double compute_share_under_exchange(const Cluster& cluster) {
  return 1 - cluster.exchange_cores / cluster.cores;
}

double far_message_rate(const Cluster& cluster) {
  return cluster.card_bandwidth * (1 - cluster.card_framing);
}
double near_message_rate(const Cluster& cluster) {
  return cluster.fabric_bandwidth * (1 - cluster.fabric_framing);
}
double far_exchange_rate(const Cluster& cluster) {
  return far_message_rate(cluster) * cluster.far_exchange;
}
double near_exchange_rate(const Cluster& cluster) {
  return near_message_rate(cluster) * cluster.near_exchange;
}

namespace {

constexpr bool kNeeded = true, kOptional = false;

Field figure(const char* name, FieldValue (*value)(void*), const char* unit, FieldRange range,
             const char* doc, bool required = kNeeded) {
  return {.name = name,
          .value = value,
          .unit = unit,
          .range = range,
          .required = required,
          .sourced = true,
          .doc = doc};
}

Field share(const char* name, FieldValue (*value)(void*), const char* doc,
            bool required = kNeeded) {
  return figure(name, value, "", required ? kShare : between(0, 1), doc, required);
}

SettingsTable device_table() {
  using C = Cluster;
  return {
      figure("nodes", value_of<&C::nodes>, "", between(1, 1 << 20), "Nodes (hosts)."),
      figure("ranks_per_node", value_of<&C::ranks_per_node>, "", between(1, 4096),
             "Devices of a node, each with one rank."),
      figure("bf16_peak", value_of<&C::bf16_peak>, "FLOP/s", kPositive,
             "Dense BF16 peak of one device."),
      figure("fp8_peak", value_of<&C::fp8_peak>, "FLOP/s", between(0, 1e18),
             "Dense FP8 peak of one device. Left out: it has no FP8.", kOptional),
      figure("fp32_peak", value_of<&C::fp32_peak>, "FLOP/s", kPositive, "FP32 peak of one device."),
      figure("memory", value_of<&C::memory>, "bytes", kPositive, "Memory of one device."),
      figure("memory_bandwidth", value_of<&C::memory_bandwidth>, "bytes/s", kPositive,
             "Peak rate of a device's memory, read and written bytes together."),
      figure("cores", value_of<&C::cores>, "", above_up_to(0, 1e6),
             "Multiprocessors of a GPU; of a CPU rank its cores, or its part of one."),
      figure("exchange_cores", value_of<&C::exchange_cores>, "", between(0, 1e6),
             "Cores that a running exchange takes from compute. Fewer than cores."),
      figure("machine_cores", value_of<&C::machine_cores>, "", between(0, 1e6),
             "Cores of the one machine that all ranks share; cores is then what one of them takes "
             "when it is alone. Left out: every rank has cores of its own.",
             kOptional),
      figure("launch_overhead", value_of<&C::launch_overhead>, "s", between(0, 1),
             "Time between two kernels in a row."),
  };
}

SettingsTable efficiency_table() {
  using C = Cluster;
  return {
      share("dense_gemm_bf16", value_of<&C::dense_gemm_bf16>,
            "Large GEMM, arithmetic alone: share of the BF16 peak."),
      share("dense_gemm_fp8", value_of<&C::dense_gemm_fp8>,
            "Large GEMM, arithmetic alone: share of the FP8 peak. Goes with fp8_peak.", kOptional),
      share("dense_gemm_fp32", value_of<&C::dense_gemm_fp32>,
            "Large GEMM, arithmetic alone: share of the FP32 peak. Left out: as BF16's.",
            kOptional),
      share("grouped_gemm_bf16", value_of<&C::grouped_gemm_bf16>,
            "Experts' GEMM, arithmetic alone: share of the BF16 peak."),
      share("grouped_gemm_fp8", value_of<&C::grouped_gemm_fp8>,
            "Experts' GEMM, arithmetic alone: share of the FP8 peak. Goes with fp8_peak.",
            kOptional),
      share("grouped_gemm_fp32", value_of<&C::grouped_gemm_fp32>,
            "Experts' GEMM, arithmetic alone: share of the FP32 peak. Left out: as BF16's.",
            kOptional),
      share("weight_gradient_bf16", value_of<&C::weight_gradient_bf16>,
            "Weight-gradient GEMM, arithmetic alone: share of the BF16 peak."),
      share("weight_gradient_fp8", value_of<&C::weight_gradient_fp8>,
            "Weight-gradient GEMM, arithmetic alone: share of the FP8 peak. Goes with fp8_peak.",
            kOptional),
      share("weight_gradient_fp32", value_of<&C::weight_gradient_fp32>,
            "Weight-gradient GEMM, arithmetic alone: share of the FP32 peak. Left out: as BF16's.",
            kOptional),
      share("gemm_memory", value_of<&C::gemm_memory>,
            "Share of memory_bandwidth at which a GEMM's operands move."),
      share("attention_forward", value_of<&C::attention_forward>,
            "Attention kernel, causal FLOPs: share of the peak of its precision (BF16)."),
      share("attention_backward", value_of<&C::attention_backward>,
            "The same of its backward kernel."),
      share("elementwise", value_of<&C::elementwise>,
            "Share of memory_bandwidth that norms, SwiGLU, casts and permutes reach."),
  };
}

SettingsTable link_table() {
  using C = Cluster;
  return {
      figure("card_bandwidth", value_of<&C::card_bandwidth>, "bytes/s", kPositive,
             "Network between nodes, of one rank, each direction."),
      figure("card_latency", value_of<&C::card_latency>, "s", between(0, 10),
             "Time of a message without bytes between nodes."),
      figure("card_framing", value_of<&C::card_framing>, "", from_to_below(0, 1),
             "Share of the network's bytes that is not payload."),
      figure("fabric_bandwidth", value_of<&C::fabric_bandwidth>, "bytes/s", kPositive,
             "Link between the devices of a node, of one rank, each direction."),
      figure("fabric_latency", value_of<&C::fabric_latency>, "s", between(0, 10),
             "Time of a message without bytes inside a node."),
      figure("fabric_framing", value_of<&C::fabric_framing>, "", from_to_below(0, 1),
             "Share of that link's bytes that is not payload."),
      share("far_exchange", value_of<&C::far_exchange>,
            "Share of the network's payload rate that dispatch and combine reach alone."),
      share("near_exchange", value_of<&C::near_exchange>, "The same inside a node."),
      figure("commit_latency", value_of<&C::commit_latency>, "s", between(0, 10),
             "One all-reduce of a few numbers over all ranks."),
      figure("price", value_of<&C::price>, "USD/h", between(0, 1e6),
             "Dollars for an hour of one device."),
  };
}

}  // namespace

const SettingsTable& table_of(const Cluster*) {
  static const SettingsTable table = [] {
    SettingsTable all = {
        {.name = "name",
         .value = value_of<&Cluster::name>,
         .doc = "The cluster's name. Empty: the file's name without its ending."},
        {.name = "description",
         .value = value_of<&Cluster::description>,
         .doc = "The cluster in one line."},
    };
    for (const SettingsTable& part : {device_table(), efficiency_table(), link_table()})
      all.insert(all.end(), part.begin(), part.end());
    return all;
  }();
  return table;
}

}  // namespace strait
