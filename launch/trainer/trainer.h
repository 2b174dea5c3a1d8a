// launch/trainer/trainer.h: a training run of one rank, from the first step or from the newest
// checkpoint to the last.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "data/checkpoint/manifest.h"
#include "data/corpus/corpus.h"
#include "data/corpus/sampler.h"
#include "launch/engine/engine.h"
#include "launch/trainer/report.h"
#include "launch/trainer/run_folder.h"
#include "recipes/recipe.h"

namespace strait {

struct TrainerOptions {
  std::string run_folder;
  bool json = false;                     // figures as lines of JSON instead of text
  int64_t traced_step = 0;               // written to <run>/trace/step-00000012.json; 0: none
  std::function<bool()> stop_requested;  // asked once a step; null: never
  std::function<void(int64_t step, const Task& task)>
      watch_tasks;  // of the compute lane; may be null
  // Before the compute lane sleeps for a transfer of a group: Engine::watch_waits. May be null.
  std::function<void(int64_t step, const Task& task, const Task& transfer,
                     const std::vector<Rank>& group)>
      watch_waits;
  std::function<void(const std::string& line)> print;  // figures, on rank 0
  std::function<void(const std::string& line)> say;    // what happened, on rank 0
};

enum class Outcome { finished, stopped };

class Trainer {
 public:
  // Collective. Checks the layout and the corpus, builds the engine, and resumes from the newest
  // checkpoint that is whole, or starts anew. Throws RecipeError, DataError, or ReportedElsewhere
  // on ranks other than 0.
  Trainer(const Recipe& recipe, Comm& comm, TrainerOptions options);
  ~Trainer();

  // Trains to the recipe's last step. `stopped`: someone asked to; the state is saved.
  Outcome run();

  Engine& engine() { return *engine_; }

 private:
  void open_corpus();
  void resume();
  std::string changes_since(const checkpoint::Manifest& saved) const;
  std::vector<int32_t> next_windows(int64_t batch);
  void committed(const StepTotals& totals);
  void evaluate();
  void save();
  void print(const std::string& line);
  void say(const std::string& line);
  void write(const std::string& line, const std::string& json);
  double lr_of_last_step() const;
  void settle();
  void write_trace(int64_t zero_ns);
  void report_memory();

  const Recipe recipe_;
  Comm& comm_;
  const TrainerOptions options_;
  const bool first_rank_;
  Mesh mesh_;
  std::unique_ptr<RunFolder> folder_;  // rank 0
  std::unique_ptr<Corpus> corpus_, held_out_;
  std::unique_ptr<Sampler> sampler_, held_out_sampler_;
  std::unique_ptr<Engine> engine_;
  std::string tokenizer_json_;
  double flops_per_token_ = 0;
  double peak_flops_ = 0;  // a second, of all ranks

  int64_t started_ = 0;      // steps whose forward and backward have run
  int64_t next_sample_ = 0;  // of the next step
  int64_t batch_ = 0;        // sequences of the step last started
  int64_t saved_step_ = -1, evaluated_step_ = -1;
  bool stopping_ = false;
  double step_seconds_ = 0;  // of the step last started
  double run_seconds_ = 0;
  int64_t run_steps_ = 0;  // since this start
  int64_t rss_start_bytes_ = 0;
};

}  // namespace strait
