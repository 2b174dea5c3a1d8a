#include "launch/commands/train.h"

#include <fmt/format.h>

#include <cstdio>

#include "launch/commands/ranks.h"
#include "launch/trainer/agree.h"
#include "launch/trainer/agree_schedule.h"
#include "launch/trainer/prediction.h"
#include "launch/trainer/stop_signal.h"
#include "launch/trainer/trainer.h"

namespace strait {
namespace {

constexpr int kStopped = 143;

// Where the line does not arrive, a full disk say, training goes on: main() tells at the end.
void print_line(const std::string& line, std::FILE* stream = stdout) {
  std::fputs((line + "\n").c_str(), stream);
  std::fflush(stream);
}

std::string headline(const Recipe& recipe, const Comm& comm, const std::string& folder) {
  const ParameterCounts parameters = count_parameters(recipe.model);
  return fmt::format(
      "training {}: {:.1f} M parameters, {:.1f} M used by a token; {} rank{}, pipeline {} ({}{}), "
      "experts over {}; {}",
      recipe.run.name, static_cast<double>(parameters.total) / 1e6,
      static_cast<double>(parameters.active) / 1e6, comm.size(), comm.size() == 1 ? "" : "s",
      recipe.parallel.pipeline, recipe.parallel.schedule, recipe.parallel.pairs ? " in pairs" : "",
      recipe.parallel.expert, folder);
}

void dry_run(const TrainOptions& options, const Recipe& recipe, int ranks) {
  const Prediction prediction = predict(recipe, ranks);
  print_line(options.json ? to_json(recipe, prediction) : to_table(recipe, prediction));
}

}  // namespace

int run_train(const TrainOptions& options) {
  StopSignal stop;
  return run_on_ranks(options.ranks, [&](Comm& comm, Watch* watch) {
    const bool first = comm.rank().value == 0;
    Recipe recipe;
    together(comm, [&] { recipe = load_recipe(options.recipe, options.overrides); });
    const std::string folder =
        options.run_folder.empty() ? recipe.run.dir + "/" + recipe.run.name : options.run_folder;
    // With --json, stdout is nothing but JSON.
    const auto say = [&options](const std::string& line) {
      print_line(line, options.json ? stderr : stdout);
    };
    const int ranks =
        options.dry_run && options.planned_ranks > 0 ? options.planned_ranks : comm.size();
    recipe = agree_schedule(std::move(recipe), comm, ranks, folder, say);
    if (options.dry_run) {
      together(comm, [&] {
        if (first) dry_run(options, recipe, ranks);
      });
      return 0;
    }
    if (first) say(headline(recipe, comm, folder));
    TrainerOptions trainer_options{.run_folder = folder,
                                   .json = options.json,
                                   .traced_step = options.traced_step,
                                   .stop_requested = {},
                                   .watch_tasks = {},
                                   .watch_waits = {},
                                   .print = [](const std::string& line) { print_line(line); },
                                   .say = say};
    trainer_options.stop_requested = [&stop, watch, first, &options] {
      const bool asks_here = options.ranks.local_ranks <= 1 || first;  // threads share one signal
      return asks_here && stop.requested() && !(watch != nullptr && watch->lost());
    };
    if (watch != nullptr) {
      trainer_options.watch_tasks = [watch](int64_t step, const Task& task) {
        watch->set_task(step + 1, to_string(task));
      };
      trainer_options.watch_waits = [watch](int64_t step, const Task& task, const Task& transfer,
                                            const std::vector<Rank>& group) {
        watch->set_wait(step + 1, to_string(task), to_string(transfer), group);
      };
    }
    Trainer trainer(recipe, comm, std::move(trainer_options));
    const Outcome outcome = trainer.run();
    if (outcome == Outcome::finished) return 0;
    if (first) say("stopped as asked; the same command goes on from here");
    return kStopped;
  });
}

}  // namespace strait
