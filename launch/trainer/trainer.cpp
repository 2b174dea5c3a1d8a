#include "launch/trainer/trainer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numbers>

#include "data/checkpoint/folder.h"
#include "data/hdf5/read_file.h"
#include "data/huggingface/config_json.h"
#include "data/tokenizer/tokenizer.h"
#include "launch/engine/engine_settings.h"
#include "launch/plan/stage_cut.h"
#include "launch/trainer/agree.h"
#include "launch/trainer/balance.h"
#include "launch/trainer/gemm_peak.h"
#include "launch/trainer/prediction.h"
#include "launch/trainer/start_weights.h"
#include "launch/trainer/state.h"
#include "launch/trainer/step_trace.h"
#include "launch/trainer/trainable.h"
#include "launch/view/output_file.h"
#include "launch/view/perfetto.h"
#include "optim/learning_rate.h"
#include "recipes/batch_ramp.h"
#include "recipes/changes.h"

namespace strait {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

int64_t extra_targets(const ModelSettings& model) { return 1 + model.num_nextn_predict_layers; }

// What must stay the same for a run to continue bit for bit is in the manifest; the rest may change
// between starts.
checkpoint::Manifest manifest_of(const Recipe& recipe, const Corpus& corpus,
                                 const std::string& tokenizer_json) {
  const huggingface::SpecialTokens tokens{.eos = corpus.eos_id()};
  checkpoint::Manifest manifest;
  manifest.seed = static_cast<uint64_t>(recipe.train.seed);
  manifest.model =
      describe_model(recipe.model, huggingface::to_config_json(recipe.model, tokens, DType::f32));
  manifest.recipe = to_yaml(recipe);
  manifest.extra = {{"tokenizer_json", tokenizer_json},
                    {"tokenizer_xxh3", corpus.info().tokenizer_xxh3},
                    {"eos_id", std::to_string(corpus.eos_id())}};
  return manifest;
}

}  // namespace

Trainer::Trainer(const Recipe& recipe, Comm& comm, TrainerOptions options)
    : recipe_(recipe),
      comm_(comm),
      options_(std::move(options)),
      first_rank_(comm.rank().value == 0),
      mesh_(1, 1, 1) {
  together(comm_, [&] {
    require_trainable(recipe_, comm_.size());
    if (options_.traced_step > recipe_.train.steps)
      throw RecipeError(fmt::format("--trace: there is no step {}; train.steps = {} ({})",
                                    options_.traced_step, recipe_.train.steps,
                                    recipe_.places.of("train.steps")));
    mesh_ = mesh_of(recipe_, comm_);
    open_corpus();
    if (first_rank_) folder_ = std::make_unique<RunFolder>(options_.run_folder);
    rss_start_bytes_ = resident_bytes();
    engine_ =
        std::make_unique<Engine>(training_settings(recipe_, mesh_, threads_of_rank(recipe_, comm_)),
                                 mesh_, comm_.rank(), &comm_, Device::cpu);
  });
  if (options_.watch_tasks)
    engine_->watch_tasks([this](const Task& task) { options_.watch_tasks(started_, task); });
  if (options_.watch_waits)
    engine_->watch_waits(
        [this](const Task& task, const Task& transfer, const std::vector<Rank>& group) {
          options_.watch_waits(started_, task, transfer, group);
        });
  if (first_rank_) flops_per_token_ = predict_flops_per_token(recipe_);
  resume();
  // Ranks that share a host may have more threads in all than it has cores.
  const auto& hosts = comm_.hosts();
  const auto ranks_here = std::ranges::count(hosts, hosts[static_cast<size_t>(comm_.rank().value)]);
  const double cores = std::min<double>(threads_of_rank(recipe_, comm_),
                                        get_nprocs() / static_cast<double>(ranks_here));
  peak_flops_ = cores * gemm_peak(engine_settings(recipe_, mesh_, 1).formats.compute);
  sum_over_ranks(comm_, std::span(&peak_flops_, 1));
}

Trainer::~Trainer() = default;

void Trainer::open_corpus() {
  const std::string& path = recipe_.data.corpus;
  corpus_ = std::make_unique<Corpus>(path);
  if (corpus_->vocab_size() > recipe_.model.vocab_size)
    throw DataError(fmt::format("{}: its tokenizer has {} tokens, but model.vocab_size is {} ({})",
                                corpus_->path(), corpus_->vocab_size(), recipe_.model.vocab_size,
                                recipe_.places.of("model.vocab_size")));
  const TrainSettings& train = recipe_.train;
  sampler_ =
      std::make_unique<Sampler>(*corpus_, train.sequence_length, extra_targets(recipe_.model),
                                static_cast<uint64_t>(train.seed));
  if (train.eval_every > 0) {
    held_out_ = std::make_unique<Corpus>(path, Split::held_out);
    held_out_sampler_ = std::make_unique<Sampler>(*held_out_, train.sequence_length,
                                                  extra_targets(recipe_.model), 0);
  }
  if (!first_rank_) return;
  const std::string tokenizer =
      (std::filesystem::path(corpus_->path()).parent_path() / "tokenizer.json").string();
  tokenizer_json_ = read_file(tokenizer);
  if (const std::string hash = xxh3_of(tokenizer_json_); hash != corpus_->info().tokenizer_xxh3)
    throw DataError(fmt::format("{}: is not the tokenizer that {} was made with (xxh3 {}, not {})",
                                tokenizer, corpus_->path(), hash, corpus_->info().tokenizer_xxh3));
}

void Trainer::resume() {
  const std::string root = RunFolder::checkpoints(options_.run_folder);
  if (first_rank_) checkpoint::remove_leftovers(root);
  int64_t below = std::numeric_limits<int64_t>::max();
  std::string damaged, changes;
  for (;;) {
    checkpoint::Latest latest;
    if (first_rank_) {
      latest = checkpoint::latest(root, below);
      for (const auto& [folder, reason] : latest.damaged)
        damaged += (damaged.empty() ? "" : "; ") + reason;
    }
    const std::string folder = from_rank_zero(comm_, latest.folder);
    damaged = from_rank_zero(comm_, damaged);
    if (folder.empty()) break;
    std::unique_ptr<checkpoint::Reader> reader;
    together(comm_, [&] {
      reader = std::make_unique<checkpoint::Reader>(folder);
      const checkpoint::Manifest& stored = reader->manifest();
      checkpoint::require_same_model(stored.model, manifest_of(recipe_, *corpus_, {}).model,
                                     folder);
      const auto hash = stored.extra.find("tokenizer_xxh3");
      if (hash != stored.extra.end() && hash->second != corpus_->info().tokenizer_xxh3)
        throw DataError(fmt::format("{}: was trained with another tokenizer than that of {}",
                                    folder, corpus_->path()));
    });
    std::string broken;
    try {
      load_checkpoint(*engine_, comm_, *reader);
    } catch (const DataError& error) {
      broken = error.what();
    } catch (const ReportedElsewhere&) {
      broken = "reported by rank 0";
    }
    if (!broken.empty()) {
      below = reader->manifest().step;
      if (first_rank_) damaged += (damaged.empty() ? "" : "; ") + broken;
      continue;
    }
    started_ = saved_step_ = evaluated_step_ = reader->manifest().step;
    next_sample_ = reader->manifest().next_sample;
    changes = changes_since(reader->manifest());
    break;
  }
  if (!damaged.empty() && started_ == 0)
    throw DataError(root + ": no checkpoint can be read; move them away to start anew: " + damaged);
  if (!damaged.empty()) say("warning: skipped damaged checkpoints: " + damaged);
  if (started_ == 0) {
    engine_->initialise(static_cast<uint64_t>(recipe_.train.seed));
    if (!recipe_.train.start_from.empty())
      say("starts from " + load_start_weights(*engine_, comm_, recipe_));
  }
  together(comm_, [&] {
    if (!folder_) return;
    folder_->cut_metrics_after(started_);
    folder_->write_recipe(
        to_yaml(recipe_));  // not earlier: a recipe that cannot go on must not replace the run's
  });
  if (started_ == 0) return;
  say(fmt::format("resumed from {} after step {}", checkpoint::step_folder(root, started_),
                  started_));
  if (!changes.empty()) say("changed since it was saved: " + changes);
}

// What the recipe says differently from the one the checkpoint was saved with, but for the model,
// which is the same.
std::string Trainer::changes_since(const checkpoint::Manifest& saved) const {
  try {
    return fmt::format(
        "{}", fmt::join(changes_between(read_recipe(saved.recipe, "saved"), recipe_), ", "));
  } catch (const RecipeError&) {  // of a version with other keys
    return {};
  }
}

std::vector<int32_t> Trainer::next_windows(int64_t batch) {
  const int64_t mine = batch / mesh_.data_size();
  const auto length = static_cast<size_t>(engine_->window_tokens());
  std::vector<int32_t> windows(static_cast<size_t>(mine) * length);
  const int64_t first = next_sample_ + mine * mesh_.data(comm_.rank()).self();
  for (int64_t i = 0; i < mine; ++i)
    sampler_->sample(first + i,
                     std::span(windows).subspan(static_cast<size_t>(i) * length, length));
  next_sample_ += batch;
  return windows;
}

double Trainer::lr_of_last_step() const {
  return started_ == 0 ? 0 : learning_rate(recipe_.schedule, started_, recipe_.train.steps);
}

void Trainer::settle() {
  if (const auto totals = engine_->settle(lr_of_last_step())) committed(*totals);
}

Outcome Trainer::run() {
  const TrainSettings& train = recipe_.train;
  const auto due = [](int64_t step, int64_t every) { return every > 0 && step % every == 0; };
  if (started_ == 0 && train.eval_every > 0) evaluate();
  while (started_ < train.steps && !stopping_) {
    if (options_.stop_requested && options_.stop_requested()) engine_->request_stop();
    const bool traces = started_ + 1 == options_.traced_step;
    const int64_t zero_ns = traces ? common_zero(comm_) : 0;
    engine_->record_spans(traces);
    const Clock::time_point start = Clock::now();
    const int64_t batch = batch_after(train, next_sample_);
    const std::vector<int32_t> windows = next_windows(batch);
    const auto totals = engine_->run_step(windows, lr_of_last_step());
    if (totals) committed(*totals);
    batch_ = batch;
    ++started_;
    step_seconds_ = seconds_since(start);
    run_seconds_ += step_seconds_;
    ++run_steps_;
    if (traces) write_trace(zero_ns);
    if (stopping_ || started_ == train.steps || due(started_, train.save_every) ||
        due(started_, train.eval_every))
      settle();
    if (due(started_, train.eval_every)) evaluate();
    if (due(started_, train.save_every)) save();
  }
  if (!stopping_ && train.eval_every > 0 && evaluated_step_ != started_) evaluate();
  if (saved_step_ != started_) save();
  if (run_steps_ > 0) report_memory();
  return stopping_ && started_ < train.steps ? Outcome::stopped : Outcome::finished;
}

void Trainer::committed(const StepTotals& totals) {
  stopping_ = stopping_ || totals.stop_requested;
  if (!first_rank_) return;
  const TrainSettings& train = recipe_.train;
  StepReport report;
  report.step = engine_->committed_steps();
  report.num_steps = train.steps;
  report.loss = totals.loss();
  report.mtp_loss = totals.mtp_loss();
  report.balance_loss = totals.balance_loss;
  report.gradient_norm = totals.gradient_norm;
  report.learning_rate = learning_rate(recipe_.schedule, report.step, train.steps);
  report.tokens = batch_ * train.sequence_length;
  report.seconds = step_seconds_;
  report.model_flops = flops_per_token_ * static_cast<double>(report.tokens);
  report.peak_flops = peak_flops_;
  report.has_transfers = comm_.size() > 1;
  if (totals.transfer_seconds > 0)
    report.hidden_share =
        std::clamp(1 - totals.waiting_seconds / totals.transfer_seconds, 0.0, 1.0);
  report.same_node_bytes = totals.same_node_bytes;
  report.other_node_bytes = totals.other_node_bytes;
  report.exchange_far_bytes = totals.exchange_far_bytes;
  report.exchange_floor_bytes = totals.exchange_floor_bytes;
  report.routed_fullest = totals.routed_fullest;
  report.routed_again = totals.routed_again;
  report.load_max_over_mean =
      totals.expert_counts.empty()
          ? 0
          : 1 + max_violation(totals.expert_counts, recipe_.model.n_routed_experts).worst_layer;
  report.memory_bytes = static_cast<int64_t>(totals.memory_bytes);
  report.seconds_left = run_seconds_ / static_cast<double>(run_steps_) *
                        static_cast<double>(train.steps - report.step);
  const bool shown = report.step % train.log_every == 0 || report.step == train.steps ||
                     report.step == 1 || stopping_;
  folder_->append_metrics(to_json(report));
  if (shown) print(options_.json ? to_json(report) : to_line(report));
}

// The same held-out windows every time; each rank takes its share, and all run equally many
// micro-batches.
void Trainer::evaluate() {
  const int64_t batch = recipe_.train.micro_batch, ranks = mesh_.data_size();
  const int64_t wanted =
      std::min(recipe_.train.eval_sequences, held_out_sampler_->windows_per_epoch());
  const int64_t rounds = std::max<int64_t>(1, wanted / (batch * ranks));
  const auto length = static_cast<size_t>(engine_->window_tokens());
  std::vector<int32_t> windows(static_cast<size_t>(batch) * length);
  std::vector<double> sums(2, 0.0);
  std::vector<int64_t> counts(engine_->selection_bias().size(), 0);
  for (int64_t round = 0; round < rounds; ++round) {
    const int64_t first = (round * ranks + mesh_.data(comm_.rank()).self()) * batch;
    for (int64_t i = 0; i < batch; ++i)
      held_out_sampler_->sample(
          first + i, std::span(windows).subspan(static_cast<size_t>(i) * length, length));
    const Engine::Evaluation result = engine_->evaluate(windows);
    sums[0] += result.nll;
    sums[1] += result.targets;
    for (size_t i = 0; i < counts.size(); ++i) counts[i] += result.expert_counts[i];
  }
  sum_over_ranks(comm_, sums);
  sum_over_ranks(comm_, counts);
  evaluated_step_ = started_;
  EvaluationReport report;
  report.step = started_;
  report.nll = sums[0] / sums[1];
  report.tokens = static_cast<int64_t>(sums[1]);
  report.bits_per_byte = report.nll / std::numbers::ln2 *
                         static_cast<double>(held_out_->num_tokens()) /
                         static_cast<double>(held_out_->num_bytes());
  report.has_experts = !counts.empty();
  if (report.has_experts) {
    const MaxViolation violation = max_violation(counts, recipe_.model.n_routed_experts);
    report.mean_violation = violation.mean;
    report.worst_violation = violation.worst_layer;
  }
  write(to_line(report), to_json(report));
}

void Trainer::save() {
  const Clock::time_point start = Clock::now();
  const std::string root = RunFolder::checkpoints(options_.run_folder);
  checkpoint::Manifest manifest = manifest_of(recipe_, *corpus_, tokenizer_json_);
  manifest.step = started_;
  manifest.next_sample = next_sample_;
  const int64_t bytes = save_checkpoint(*engine_, comm_, root, std::move(manifest));
  saved_step_ = started_;
  if (first_rank_ && recipe_.train.keep_checkpoints > 0)
    checkpoint::prune(root, static_cast<int>(recipe_.train.keep_checkpoints));
  say(fmt::format("saved {} ({} in {:.1f} s)", checkpoint::step_folder(root, started_),
                  bytes_text(static_cast<double>(bytes)), seconds_since(start)));
}

void Trainer::write_trace(int64_t zero_ns) {
  const std::string path = RunFolder::trace(options_.run_folder, started_);
  const Trace trace = gather_trace(comm_, *engine_,
                                   fmt::format("{}, step {}", recipe_.run.name, started_), zero_ns);
  together(comm_, [&] {
    if (!first_rank_) return;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    write_output_file(path, [&](std::ostream& out) { write_perfetto(trace, out); });
  });
  say(fmt::format("wrote {}; strait draw {} --out step.html shows it", path, path));
}

// Of the fullest rank, by what that rank has measured.
void Trainer::report_memory() {
  const MeasuredMemory measured = measure_memory(engine_->ctx().memory(), rss_start_bytes_);
  const Rank fullest = rank_of_largest(comm_, measured.tensors.total());
  std::string text;
  together(comm_, [&] {
    if (comm_.rank() != fullest) return;
    const int threads = threads_of_rank(recipe_, comm_);
    const MemoryUse even = predict_memory(recipe_, mesh_, fullest, threads, {});
    const MemoryUse met =
        predict_memory(recipe_, mesh_, fullest, threads, engine_->loads_at_peak());
    text = options_.json ? memory_json(fullest, even, met, measured)
                         : memory_table(fullest, even, met, measured);
  });
  print(from_rank(comm_, fullest, text));
}

void Trainer::print(const std::string& line) {
  if (first_rank_ && options_.print) options_.print(line);
}

void Trainer::say(const std::string& line) {
  if (first_rank_ && options_.say) options_.say(line);
}

void Trainer::write(const std::string& line, const std::string& json) {
  if (!first_rank_) return;
  folder_->append_metrics(json);
  print(options_.json ? json : line);
}

}  // namespace strait
