// launch/trainer/report.h: what is said about a step, as a line for people and as JSON for
// programs.
#pragma once

#include <cstdint>
#include <string>

namespace strait {

struct StepReport {
  int64_t step = 0, num_steps = 0;
  double loss = 0;      // mean negative log-likelihood of the next token, nats
  double mtp_loss = 0;  // of the token after it; 0: no MTP module
  double balance_loss = 0;
  double gradient_norm = 0;
  double learning_rate = 0;
  int64_t tokens = 0;       // of the step, over all ranks
  double seconds = 0;       // of the step
  double model_flops = 0;   // of the step, without what is recomputed
  double peak_flops = 0;    // a second, of matrix products on all ranks' cores (gemm_peak)
  double hidden_share = 0;  // of transfer time that no computation waited for; mean over ranks
  bool has_transfers = false;
  double same_node_bytes = 0, other_node_bytes = 0;  // sent by all ranks in the step
  // Of the latter, those of dispatch and combine, and the least they could be: each token's row
  // once to each remote node that holds one of its experts, in each exchange.
  double exchange_far_bytes = 0, exchange_floor_bytes = 0;
  // Of the rank whose routed experts kept most until backward, in multiples of the mean; and phases
  // that were dispatched and computed again because they had no room.
  double routed_fullest = 0, routed_again = 0;
  double load_max_over_mean = 0;  // of the most loaded expert, worst MoE layer; 0: no experts
  int64_t memory_bytes = 0;       // tensors of the fullest rank, at their peak so far
  double seconds_left = 0;        // of the run, at the pace so far
};
std::string to_line(const StepReport& report);
std::string to_json(const StepReport& report);

struct EvaluationReport {
  int64_t step = 0;
  double nll = 0;  // nats per token of held-out text
  double bits_per_byte = 0;
  int64_t tokens = 0;
  double mean_violation = 0;  // MaxVio = (most loaded expert / mean load) - 1: mean over MoE layers
  double worst_violation = 0;  // and the worst of them
  bool has_experts = false;
};
std::string to_line(const EvaluationReport& report);
std::string to_json(const EvaluationReport& report);

// 1234567 -> "1.23 MB"; decimal units.
std::string bytes_text(double bytes);
std::string duration_text(double seconds);  // "3:21", "1:02:03"

}  // namespace strait
