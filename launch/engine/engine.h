// launch/engine/engine.h: one rank's part of the model, its shards and programs: runs training
// steps and evaluations.
//
// The engine binds the kinds of a program to functions. It knows no files and no command line: the
// trainer, verify and the tests hand it token windows and read or set its state. Called from one
// thread, which becomes the compute thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "core/nn/head.h"
#include "core/nn/layer.h"
#include "core/nn/model.h"
#include "core/ops/adamw.h"
#include "optim/settings.h"
#include "parallel/comm/comm.h"
#include "parallel/expert/expert_waves.h"
#include "parallel/expert/routed_pool.h"
#include "parallel/mesh/mesh.h"
#include "parallel/program/execute.h"
#include "parallel/program/lower.h"
#include "parallel/shard/bucket.h"

namespace strait {

struct EngineSettings {
  ModelSettings model;
  OptimizerSettings optimizer;
  BalanceSettings balance;
  MtpSettings mtp;
  ModelFormats formats = DType::f32;
  DType combine_wire = DType::f32;
  bool fp8_dispatch = false;
  bool fp8_sums = false;          // of experts, on their way back; the rest is of combine_wire
  std::string exchange = "auto";  // as parallel.exchange
  int exchange_chunks = 1;        // of a two-tier exchange
  double routed_headroom = 0;     // of the RoutedPool; 0: no limit
  Recompute recompute;
  int64_t sequence_length = 0;
  int64_t micro_batch = 1;          // sequences
  int64_t num_microbatches = 1;     // of this rank in one step
  std::vector<int64_t> fewer;       // that a step may have, too (a batch ramp's)
  std::string schedule = "1f1b";    // as parallel.schedule; positions are those of the mesh
  int64_t chunks = 0;               // as parallel.chunks
  bool pairs = false;               // as parallel.pairs
  int waves = 1;                    // as parallel.waves
  bool overlap = true;              // as parallel.overlap
  std::vector<StageLayers> stages;  // one per stage of the schedule; empty: one has all layers
  int64_t head_chunk_tokens = 512;  // whose logits exist at once
  int num_threads = 1;
  bool training = true;
};

// Sums over all ranks, agreed at a step's commit.
struct StepTotals {
  double nll = 0, targets = 0;                       // main model
  double mtp_nll = 0, mtp_targets = 0;               // MTP module
  double balance_loss = 0;                           // mean over sequences, summed over layers
  double gradient_norm = 0;                          // before clipping
  double same_node_bytes = 0, other_node_bytes = 0;  // payload sent since the commit before
  // Of that, what exchanges have sent to other nodes, and the least they could have (ExpertLinks).
  double exchange_far_bytes = 0, exchange_floor_bytes = 0;
  double memory_bytes = 0;    // of the fullest rank's tensors, at their peak so far
  double routed_fullest = 0;  // of the fullest rank's RoutedPool, in multiples of the mean
  double routed_again = 0;    // phases, of all ranks, that it had no room for
  double waiting_seconds = 0, transfer_seconds = 0;  // see ExecutionTimes
  bool stop_requested = false;                       // by any rank
  std::vector<int64_t> expert_counts;                // [MoE layers, E]

  double loss() const { return targets > 0 ? nll / targets : 0; }
  double mtp_loss() const { return mtp_targets > 0 ? mtp_nll / mtp_targets : 0; }
};

class Engine {
 public:
  // `comm` may be null: then there is one rank and no communication thread, and on `meta` nothing
  // runs at all.
  Engine(const EngineSettings& settings, const Mesh& mesh, Rank rank, Comm* comm, Device device);
  ~Engine();

  // A window per sequence: sequence_length tokens, then 1 (2 with an MTP module) that only serve as
  // targets. -1 as a target is not counted; as an input it stands for any token.
  int64_t window_tokens() const;
  // Of the largest step.
  int64_t windows_per_step() const { return settings_.micro_batch * settings_.num_microbatches; }

  // Weights and masters of a new model.
  void initialise(uint64_t seed);
  // After masters were set from outside (bucket by bucket, through buckets()): weights follow.
  // Without training there are no masters, and the buckets' weights themselves are set.
  void load_weights();

  // Forward and backward of this rank's windows, as many micro-batches as the settings know; before
  // that, the boundary of the step before, if there was one, with learning rate `lr` of that step.
  // Returns the totals of the step before.
  std::optional<StepTotals> run_step(const std::vector<int32_t>& windows, double lr_of_last_step);
  // Commits the step whose gradients are waiting, if any.
  std::optional<StepTotals> settle(double lr_of_last_step);
  // Sum of losses over this rank's windows, and the number of targets: one micro-batch. REQUIRES:
  // settled.
  struct Evaluation {
    double nll = 0, targets = 0;
    std::vector<int64_t> expert_counts;  // [MoE layers, E]
  };
  Evaluation evaluate(const std::vector<int32_t>& windows);
  // Receives the logits [C, V] of each chunk of an evaluation's main head; for tests and export
  // checks.
  void watch_logits(std::function<void(const Tensor& logits_CV, int64_t first)> watcher) {
    logits_watcher_ = std::move(watcher);
  }

  // Is told each compute task before it starts, so that others can say where this rank is; without
  // a communication thread each transfer too.
  void watch_tasks(std::function<void(const Task& task)> watcher) {
    task_watcher_ = std::move(watcher);
  }

  // Is told before the compute thread sleeps: `task` waits for `transfer`, in which `group` takes
  // part (none: all ranks).
  void watch_waits(
      std::function<void(const Task& task, const Task& transfer, const std::vector<Rank>& group)>
          watcher) {
    wait_watcher_ = std::move(watcher);
  }

  // Is told when work at the end of `layer` starts and when it is over: the sum that is the layer's
  // output (forward), and what is done with that sum's gradient (backward). Either is a part of the
  // task of another layer or of the head.
  void watch_layer_ends(std::function<void(int layer, Pass pass, bool starts)> watcher) {
    layer_end_watcher_ = std::move(watcher);
  }

  // Sees each MoE layer's route once it is made. T tokens of the micro-batch, K choices each. What
  // the watcher changes in `ids` (i32) and `weights` (f32) is what the token does; both must go on
  // fitting each other.
  struct RouteView {
    int microbatch = 0, layer = 0;
    Tensor logits_TE, ids_TK, weights_TK;
  };
  void watch_routes(std::function<void(const RouteView& route)> watcher) {
    route_watcher_ = std::move(watcher);
  }
  // Sees the sums over experts that come back to the tokens of a micro-batch, [T, H] FP32.
  void watch_expert_sums(
      std::function<void(int microbatch, int layer, const Tensor& sums_TH)> watcher) {
    sums_watcher_ = std::move(watcher);
  }

  // Of each MoE layer, what the exchanges carried when the most memory was taken.
  const std::vector<RoutedRows>& loads_at_peak() const { return loads_at_peak_; }
  // On `meta`: what they carry, of each MoE layer. Without it, what even routing makes of it.
  void expect_loads(const std::vector<RoutedRows>& loads) { loads_ = loads; }

  void request_stop() { stop_requested_ = true; }
  Context& ctx() { return *ctx_; }
  const Model& model() const { return model_; }
  std::vector<Bucket>& buckets() { return buckets_; }
  std::vector<float>& selection_bias() { return bias_; }  // [MoE layers, E]
  int64_t committed_steps() const { return committed_steps_; }
  void set_committed_steps(int64_t steps) { committed_steps_ = steps; }
  // With a communication thread: when each task of the programs run from now on ran.
  void record_spans(bool on) { records_spans_ = on; }
  const Program& last_program() const { return *last_program_; }
  const std::vector<TaskSpan>& last_spans() const { return spans_; }  // of last_program()

 private:
  struct Layer;
  struct Microbatch;
  class Crossings;
  void lower_programs(const StepShape& shape, int position);
  void lower_steps(const StepShape& shape, int position, int64_t num_microbatches);
  void run(const Program& program);
  void compute(const Task& task);
  void run_task(const Task& task);
  void in_step(const std::function<void()>& work);  // a NotFiniteError gets the step's number
  OperationPtr transfer(const Task& task);

  // engine_tasks.cpp
  void embed(const Task& task);
  void attention_task(const Task& task);
  void mlp_task(const Task& task);
  void experts_task(const Task& task);
  void head(const Task& task);
  // `ctx`: of the thread that calls.
  Tensor finish_layer(Context& ctx, int layer, int microbatch);
  void begin_layer_backward(Context& ctx, int layer, int microbatch, Tensor d_out);
  std::vector<int32_t> ids_of(int microbatch, int64_t offset) const;
  Tensor tokens(std::vector<int32_t> ids);
  Layer& layer_of(int microbatch, int layer);
  bool is_mtp(int layer) const {
    return layer == static_cast<int>(model_.settings.num_hidden_layers);
  }

  // engine_messages.cpp
  void find_crossings(const Schedule& schedule);
  bool arrives(int microbatch, int layer) const;  // its input, from another position
  Tensor hidden_before(int layer, int microbatch);
  void pass_gradient(int layer, int microbatch, Tensor d_hidden);
  OperationPtr cross(const Task& task);

  RoutedRows even_load() const;

  // engine_watch.cpp
  std::vector<Rank> group_of(const Task& transfer) const;
  void note_loads_at_peak();
  void show_route(const Task& task, const AttentionPhase& phase);
  void add_expert_sums(Context& ctx, int layer, int microbatch, Tensor& hidden);

  // engine_boundary.cpp
  void gradient_norm();
  OperationPtr commit();
  void finish_commit();
  void update(int bucket);
  void update_selection_bias();
  OperationPtr gather_weights(int bucket);
  OperationPtr reduce_gradients(int bucket);
  void pack_weights(int bucket);

  EngineSettings settings_;
  Mesh mesh_;
  Comm* comm_ = nullptr;
  ExpertLinks links_;
  RoutedPool routed_pool_;
  std::optional<Channel> world_channel_, pipe_channel_;
  std::vector<Channel> bucket_channels_;  // none without a Comm
  std::unique_ptr<Context> ctx_;
  std::unique_ptr<Context> pipe_ctx_;  // the communication thread's
  Model model_;
  std::vector<Bucket> buckets_;
  LayerContext layer_context_;
  // By number of micro-batches; `first` without the boundary of a step before.
  struct StepPrograms {
    Schedule schedule;
    Program first, later;
  };
  std::map<int64_t, StepPrograms> steps_;
  const StepPrograms* step_ = nullptr;  // the one that runs
  StepShape step_shape_;
  std::vector<std::vector<bool>> arrives_;  // [copy][layer]
  Program settle_, load_, evaluation_;

  // The micro-batches of the step; several may be in flight.
  const std::vector<int32_t>* windows_ = nullptr;
  std::vector<Microbatch> microbatches_;
  std::unique_ptr<Crossings> crossings_;

  // The step.
  double learning_rate_ = 0;
  bool waiting_to_commit_ = false;
  int64_t sequences_to_commit_ = 0;  // of all ranks in the step that waits
  bool agreed_ = false;              // commit has run, finish_commit has not
  bool stop_requested_ = false;
  int64_t committed_steps_ = 0;
  std::vector<float> bias_;
  Tensor bias_tensor_;             // [MoE layers, E] FP32
  Tensor expert_counts_;           // [MoE layers, E] i64, of this rank's step
  std::vector<RoutedRows> loads_;  // [MoE layers] of the micro-batch in flight
  std::vector<RoutedRows> loads_at_peak_;
  int64_t peak_bytes_ = 0;             // so far
  std::vector<double> sums_;           // what commit adds up over ranks
  std::vector<double> largest_{0, 0};  // and what it takes the largest of: routed_fullest, bytes
  StepTotals totals_;
  ExecutionTimes times_;
  bool records_spans_ = false;
  const Program* last_program_ = nullptr;
  std::vector<TaskSpan> spans_;
  LaneBytes sent_at_commit_;
  int64_t exchanged_at_commit_ = 0, floor_at_commit_ = 0;
  std::function<void(const Tensor&, int64_t)> logits_watcher_;
  std::function<void(const Task&)> task_watcher_;
  std::function<void(const Task&, const Task&, const std::vector<Rank>&)> wait_watcher_;
  std::function<void(int, Pass, bool)> layer_end_watcher_;
  std::function<void(const RouteView&)> route_watcher_;
  std::function<void(int, int, const Tensor&)> sums_watcher_;
};

}  // namespace strait
