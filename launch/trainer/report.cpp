#include "launch/trainer/report.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace strait {
namespace {

// JSON has no NaN.
std::string number(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : std::string("null");
}

}  // namespace

std::string bytes_text(double bytes) {
  static constexpr std::array units = {"B", "kB", "MB", "GB", "TB", "PB"};
  size_t unit = 0;
  while (std::fabs(bytes) >= 999.5 && unit + 1 < units.size()) {
    bytes /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.3g} {}", bytes, units[unit]);
}

std::string duration_text(double seconds) {
  const auto all = static_cast<int64_t>(std::lround(std::max(0.0, seconds)));
  const int64_t hours = all / 3600, minutes = all / 60 % 60;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, all % 60);
  return fmt::format("{}:{:02}", minutes, all % 60);
}

std::string to_line(const StepReport& r) {
  const int width = static_cast<int>(std::to_string(r.num_steps).size());
  std::string line = fmt::format("step {:>{}}/{}  loss {:.4f}", r.step, width, r.num_steps, r.loss);
  if (r.mtp_loss > 0) line += fmt::format("  mtp {:.4f}", r.mtp_loss);
  line +=
      fmt::format("  grad {:.3f}  lr {:.2e}  {:.0f} tok/s  {:.1f} GFLOP/s ({:.0f}%)",
                  r.gradient_norm, r.learning_rate, static_cast<double>(r.tokens) / r.seconds,
                  r.model_flops / r.seconds / 1e9, 100 * r.model_flops / r.seconds / r.peak_flops);
  if (r.has_transfers)
    line += fmt::format("  hidden {:.0f}%  sent {} + {} far", 100 * r.hidden_share,
                        bytes_text(r.same_node_bytes), bytes_text(r.other_node_bytes));
  if (r.exchange_floor_bytes > 0)
    line += fmt::format(" (exchanges {}, floor {})", bytes_text(r.exchange_far_bytes),
                        bytes_text(r.exchange_floor_bytes));
  if (r.load_max_over_mean > 0)
    line += fmt::format("  load {:.2f}  routed {:.2f}", r.load_max_over_mean, r.routed_fullest);
  if (r.routed_again > 0) line += fmt::format(" ({:.0f} again)", r.routed_again);
  return line + fmt::format("  mem {}  left {}", bytes_text(static_cast<double>(r.memory_bytes)),
                            duration_text(r.seconds_left));
}

std::string to_json(const StepReport& r) {
  return fmt::format(
      R"({{"kind":"step","step":{},"loss":{},"mtp_loss":{},"balance_loss":{},"gradient_norm":{},"learning_rate":{},)"
      R"("tokens":{},"seconds":{},"tokens_per_second":{},"model_flops_per_second":{},"share_of_peak":{},"hidden_share":{},)"
      R"("same_node_bytes":{},"other_node_bytes":{},"exchange_far_bytes":{},"exchange_floor_bytes":{},"load_max_over_mean":{},"routed_fullest":{},"routed_again":{},"memory_bytes":{}}})",
      r.step, number(r.loss), number(r.mtp_loss), number(r.balance_loss), number(r.gradient_norm),
      number(r.learning_rate), r.tokens, number(r.seconds),
      number(static_cast<double>(r.tokens) / r.seconds), number(r.model_flops / r.seconds),
      number(r.model_flops / r.seconds / r.peak_flops),
      r.has_transfers ? number(r.hidden_share) : "null", number(r.same_node_bytes),
      number(r.other_node_bytes), number(r.exchange_far_bytes), number(r.exchange_floor_bytes),
      number(r.load_max_over_mean), number(r.routed_fullest), number(r.routed_again),
      r.memory_bytes);
}

std::string to_line(const EvaluationReport& r) {
  std::string line = fmt::format("held-out after step {}: nll {:.4f}  bits/byte {:.4f}", r.step,
                                 r.nll, r.bits_per_byte);
  if (r.has_experts)
    line +=
        fmt::format("  MaxVio {:.3f} (worst layer {:.3f})", r.mean_violation, r.worst_violation);
  return line;
}

std::string to_json(const EvaluationReport& r) {
  return fmt::format(
      R"({{"kind":"held_out","step":{},"nll":{},"bits_per_byte":{},"tokens":{},"max_violation":{},)"
      R"("max_violation_worst_layer":{}}})",
      r.step, number(r.nll), number(r.bits_per_byte), r.tokens,
      r.has_experts ? number(r.mean_violation) : "null",
      r.has_experts ? number(r.worst_violation) : "null");
}

}  // namespace strait
