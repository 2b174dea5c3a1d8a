#include "launch/command_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>

#include "core/errors.h"
#include "launch/arguments.h"
#include "launch/commands/cluster.h"
#include "launch/commands/data.h"
#include "launch/commands/draw.h"
#include "launch/commands/eval.h"
#include "launch/commands/export.h"
#include "launch/commands/formats.h"
#include "launch/commands/generate.h"
#include "launch/commands/plan.h"
#include "launch/commands/recipe.h"
#include "launch/commands/schedule.h"
#include "launch/commands/train.h"
#include "launch/commands/verify.h"
#include "launch/version_text.h"
#include "parallel/comm/mpi_environment.h"
#include "parallel/pipeline/schedules.h"

namespace strait {
namespace {

enum class WorkOf { one_process, all_ranks };

// The command that was chosen, to be run once the whole line has been understood.
struct Chosen {
  std::function<int()> run;
  WorkOf work = WorkOf::one_process;
};

// A command with its options, which live as long as it does.
template <class Options>
std::shared_ptr<Options> on_chosen(CLI::App* command, Chosen& chosen, int (*run)(const Options&),
                                   WorkOf work = WorkOf::one_process) {
  auto options = std::make_shared<Options>();
  command->callback([options, run, work, &chosen] {
    chosen = {.run = [options, run] { return run(*options); }, .work = work};
  });
  return options;
}

void add_recipe(CLI::App* command, std::string& recipe, std::vector<std::string>& overrides) {
  add_text(command, "recipe", recipe, "the recipe, a YAML file")->required()->type_name("FILE");
  command->add_option("--set", overrides, "change a key of the recipe; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

void add_model(CLI::App* command, std::string& model) {
  add_text(command, "--model", model,
           "a Hugging Face folder, a checkpoint, or a run (its newest checkpoint)")
      ->required()
      ->type_name("DIR");
}

void add_threads(CLI::App* command, int& threads) {
  add_number(command,
             {.name = "--threads",
              .range = between(1, 4096),
              .doc = "compute threads (default: all cores)"},
             threads);
}

void add_ranks(CLI::App* command, RankOptions& ranks) {
  add_number(command,
             {.name = "--local-ranks",
              .range = between(1, 256),
              .doc = "run so many ranks as threads of this process"},
             ranks.local_ranks);
  add_number(command,
             {.name = "--ranks-per-node",
              .range = between(1, 1 << 20),
              .doc = "take every so many ranks for a node (default: those of a host)"},
             ranks.ranks_per_node);
}

void add_train(CLI::App& app, Chosen& chosen) {
  CLI::App* command =
      app.add_subcommand("train", "train, or go on training, a model from a recipe");
  auto o = on_chosen(command, chosen, run_train, WorkOf::all_ranks);
  add_recipe(command, o->recipe, o->overrides);
  add_text(command, "--run", o->run_folder,
           "folder of the run (default: run.dir/run.name of the recipe)")
      ->type_name("DIR");
  add_number(command,
             {.name = "--trace",
              .range = between(1, 1'000'000'000),
              .doc = "write what each task of this step took to the run's folder, for strait draw"},
             o->traced_step);
  CLI::Option* dry_run =
      command->add_flag("--dry-run", o->dry_run, "say what the run would take, and stop");
  add_number(command,
             {.name = "--ranks",
              .range = between(1, 1 << 20),
              .doc = "of a dry run: plan for so many ranks"},
             o->planned_ranks)
      ->needs(dry_run);
  add_ranks(command, o->ranks);
  command->add_flag("--json", o->json, "print lines of JSON; what is said besides goes to stderr");
  command->footer(
      "Under mpirun, every process is a rank. The same command again goes on from the newest "
      "checkpoint.\n"
      "SIGUSR1 to mpirun, or SIGTERM to a rank, saves and stops with exit code 143.");
}

void add_eval(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("eval", "bits per byte and loss of a model on a text");
  auto o = on_chosen(command, chosen, run_eval);
  add_model(command, o->model);
  add_text(command, "--text", o->text, "a UTF-8 text")->required()->type_name("FILE");
  add_number(command,
             {.name = "--sequence-length",
              .range = between(1, 1 << 24),
              .doc = "tokens of a window (default: as trained)"},
             o->sequence_length);
  command->add_option("--precision", o->precision, "of the computation (default: the model's)")
      ->check(CLI::IsMember({"fp32", "bf16", "fp8"}));
  add_text(command, "--logits", o->logits,
           "also write the logits of the text's whole windows, as safetensors")
      ->type_name("FILE");
  add_threads(command, o->threads);
  command->add_flag("--json", o->json, "print JSON");
}

void add_generate(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("generate", "text that a model writes");
  auto o = on_chosen(command, chosen, run_generate);
  add_model(command, o->model);
  command->add_option("--prompt", o->prompt, "what the text begins with")->type_name("TEXT");
  add_number(command,
             {.name = "--max-tokens",
              .range = between(1, 1e12),
              .doc = "stop after so many",
              .show_default = true},
             o->max_tokens);
  add_number(command,
             {.name = "--temperature",
              .range = between(0, 100),
              .doc = "0: always the likeliest token",
              .show_default = true},
             o->temperature);
  add_number(command,
             {.name = "--top-p",
              .range = above_up_to(0, 1),
              .doc = "sample from the likeliest tokens with this much probability",
              .show_default = true},
             o->top_p);
  add_number(command,
             {.name = "--seed",
              .range = between(0, 9007199254740992.0),
              .doc = "of the sampling; the same seed gives the same text",
              .show_default = true},
             o->seed);
  add_threads(command, o->threads);
  command->add_flag("--json", o->json, "print JSON");
}

void add_export(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("export", "write a model as a Hugging Face folder");
  auto o = on_chosen(command, chosen, run_export);
  add_text(command, "--from", o->from, "a checkpoint, or a run (its newest checkpoint)")
      ->required()
      ->type_name("DIR");
  add_text(command, "--to", o->to, "the new folder")->required()->type_name("DIR");
  command
      ->add_option("--dtype", o->dtype,
                   "of the weights; fp8: linear layers in blocks of 128 x 128, the rest BF16")
      ->capture_default_str()
      ->check(CLI::IsMember({"bf16", "fp32", "fp8"}));
  command->add_flag("--json", o->json, "print JSON");
}

void add_verify(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand(
      "verify", "compare the layout it is started in with one rank, step by step");
  auto o = on_chosen(command, chosen, run_verify, WorkOf::all_ranks);
  add_recipe(command, o->recipe, o->overrides);
  add_number(command,
             {.name = "--steps",
              .range = between(1, 1 << 20),
              .doc = "single steps to compare, each from the same state",
              .show_default = true},
             o->steps);
  add_number(command,
             {.name = "--free-steps",
              .range = between(0, 1 << 20),
              .doc = "steps of a run from the start that is shown beside one rank's",
              .show_default = true},
             o->free_steps);
  add_ranks(command, o->ranks);
  command->add_flag("--json", o->json, "print JSON");
  command->footer(
      "Under mpirun, every process is a rank; rank 0 also computes the whole batch by itself. Uses "
      "the\n"
      "recipe's corpus, or made-up tokens where there is none. Exit code 5 when a gate is not "
      "held.");
}

// What the pipeline is whose slots are shown; 0 stands for what was not said.
void add_pipeline_size(CLI::App* command, int& ranks, int& microbatches, int& chunks) {
  add_number(command,
             {.name = "--ranks",
              .range = between(1, kMostPositions),
              .doc = "of the pipeline: its positions"},
             ranks);
  add_number(command,
             {.name = "--micro-batches",
              .range = between(1, kMostMicrobatches),
              .doc = "of a step and pipeline"},
             microbatches);
  add_number(command,
             {.name = "--chunks",
              .range = between(1, kMostChunks),
              .doc = "stages of each rank, where the schedule leaves a choice"},
             chunks);
}

void add_times(CLI::App* command, std::string& times) {
  add_text(command, "--times", times,
           "of one micro-batch through one stage: forward, whole backward, its weight gradients, "
           "a pair")
      ->capture_default_str()
      ->type_name("F=..,B=..,W=..,FB=..");
}

void add_schedule(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("schedule", "a pipeline schedule in numbers");
  auto o = on_chosen(command, chosen, run_schedule);
  CLI::Option* name =
      add_text(command, "--name", o->name, fmt::format("{}", fmt::join(schedule_names(), ", ")));
  add_text(command, "--file", o->file, "or a schedule in a file, as --print writes it")
      ->type_name("FILE")
      ->excludes(name);
  add_pipeline_size(command, o->ranks, o->microbatches, o->chunks);
  add_times(command, o->times);
  add_text(command, "--stage-costs", o->stage_costs,
           "for each stage how many times as long it takes")
      ->type_name("A,B,...");
  command->add_flag("--pair", o->pair,
                    "make pairs of forwards and backwards where that makes it faster");
  command->add_flag("--print", o->print, "also the slots; the output can be read with --file");
  command->add_flag("--json", o->json, "print JSON");
}

CLI::Option* add_task_times(CLI::App* command, std::string& path) {
  return add_text(command, "--task-times", path,
                  "a table of what tasks of this model took, kind,pass,layer,start_us,end_us,"
                  "busy_us,cores, in place of the cluster's formulas")
      ->type_name("FILE");
}

void add_draw(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("draw", "a step as a picture, or two steps compared");
  auto o = on_chosen(command, chosen, run_draw);
  CLI::Option* trace =
      add_text(command, "trace", o->trace,
               "a trace, as a run or --perfetto writes it; with --cluster, a recipe")
          ->type_name("FILE");
  CLI::Option* cluster = add_text(command, "--cluster", o->cluster,
                                  "draw the recipe's step as `strait plan` foresees it there")
                             ->type_name("CLUSTER")
                             ->needs(trace);
  command->add_option("--set", o->overrides, "change a key of the recipe; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false)
      ->needs(cluster);
  add_task_times(command, o->task_times)->needs(cluster);
  CLI::Option* schedule =
      add_text(command, "--schedule", o->schedule, "draw the slots of this pipeline schedule")
          ->type_name("NAME|FILE")
          ->excludes(trace);
  add_pipeline_size(command, o->ranks, o->microbatches, o->chunks);
  add_times(command, o->times);
  for (const char* of_schedule : {"--ranks", "--micro-batches", "--chunks", "--times"})
    command->get_option(of_schedule)->needs(schedule);
  CLI::Option* beside = add_text(command, "--beside", o->beside,
                                 "a second schedule, or a second trace, below the first")
                            ->type_name("NAME|FILE");
  CLI::Option* out =
      add_text(command, "--out", o->out, "the page, which needs nothing but a browser")
          ->type_name("PAGE.html");
  CLI::Option* perfetto = add_text(command, "--perfetto", o->perfetto,
                                   "the (first) trace as JSON, for Perfetto and for --compare")
                              ->type_name("FILE");
  CLI::Option* compare =
      command->add_option("--compare", o->compare, "rank the differences between two traces")
          ->expected(2)
          ->type_name("FILE");
  for (CLI::Option* other : {trace, schedule, beside, out, perfetto}) compare->excludes(other);
  add_number(command,
             {.name = "--top",
              .range = between(0, 1 << 30),
              .doc = "rows of each list of a comparison",
              .show_default = true},
             o->top)
      ->needs(compare);
  command->add_flag("--json", o->json, "print JSON");
}

struct RecipeOptions {
  std::string recipe, key;
  std::vector<std::string> overrides;
  int ranks = 0;
  bool json = false;
};

void add_recipe_commands(CLI::App& app, Chosen& chosen) {
  CLI::App* group = app.add_subcommand(
      "recipe", "explain recipe keys, show a recipe in full or its formats, check it");
  group->require_subcommand(1);
  CLI::App* explain =
      group->add_subcommand("explain", "what a key, a section, or everything means");
  auto e = on_chosen<RecipeOptions>(
      explain, chosen, [](const RecipeOptions& o) { return run_recipe_explain(o.key); });
  explain->add_option("key", e->key, "for example model.hidden_size, or model");
  CLI::App* show = group->add_subcommand("show", "the recipe with every default written out");
  auto s = on_chosen<RecipeOptions>(
      show, chosen, [](const RecipeOptions& o) { return run_recipe_show(o.recipe, o.overrides); });
  add_recipe(show, s->recipe, s->overrides);
  CLI::App* formats =
      group->add_subcommand("formats", "the number format of every tensor that is kept or sent");
  auto f = on_chosen<RecipeOptions>(formats, chosen, [](const RecipeOptions& o) {
    return run_recipe_formats(o.recipe, o.overrides, o.json);
  });
  add_recipe(formats, f->recipe, f->overrides);
  formats->add_flag("--json", f->json, "print JSON only");
  CLI::App* check = group->add_subcommand("check", "all problems of a recipe");
  auto c = on_chosen<RecipeOptions>(check, chosen, [](const RecipeOptions& o) {
    return run_recipe_check(o.recipe, o.overrides, o.ranks);
  });
  add_recipe(check, c->recipe, c->overrides);
  add_number(check,
             {.name = "--ranks",
              .range = between(1, 1 << 20),
              .doc = "also whether so many ranks can run it"},
             c->ranks);
}

struct ClusterListOptions {
  bool json = false;
};

CLI::Option* add_cluster(CLI::App* command, const std::string& name, std::string& cluster,
                         const std::string& doc) {
  return add_text(command, name, cluster,
                  doc + "a cluster file, or a name that `strait cluster list` prints")
      ->type_name("CLUSTER");
}

void add_plan(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand(
      "plan",
      "what training a recipe on a cluster would take, and the best layout; nothing is run");
  auto o = on_chosen(command, chosen, run_plan);
  add_recipe(command, o->recipe, o->overrides);
  add_cluster(command, "--cluster", o->cluster, "")->required();
  add_cluster(command, "--on", o->on, "what the same layout would take there too: ");
  add_number(
      command,
      {.name = "--ranks", .range = between(1, 1 << 20), .doc = "of the cluster (default: all)"},
      o->ranks);
  command->add_option("--precision", o->precision, "of the step (default: the recipe's)")
      ->check(CLI::IsMember({"fp32", "bf16", "fp8"}));
  add_text(command, "--tokens", o->tokens,
           "of the run, such as 14.8T (default: the recipe's steps)");
  add_number(command,
             {.name = "--price",
              .range = between(0, 1e6),
              .doc = "dollars for an hour of a rank (default: the cluster's)"},
             o->price);
  add_number(command,
             {.name = "--skew",
              .range = between(1, 1e3),
              .doc = "rows of the busiest rank over the mean, for the slow end of the band",
              .show_default = true},
             o->skew);
  add_task_times(command, o->task_times);
  command->add_flag("--no-search", o->no_search, "only the recipe's own layout");
  add_number(
      command,
      {.name = "--top", .range = between(1, 1000), .doc = "layouts to list", .show_default = true},
      o->top);
  command->add_flag("--json", o->json, "print JSON");
}

void add_cluster_commands(CLI::App& app, Chosen& chosen) {
  CLI::App* group =
      app.add_subcommand("cluster", "the figures of a cluster: show, list, fit from measurements");
  group->require_subcommand(1);
  CLI::App* show = group->add_subcommand("show", "every figure with its unit and its source");
  auto s = on_chosen(show, chosen, run_cluster_show);
  add_cluster(show, "cluster", s->cluster, "")->required();
  show->add_flag("--json", s->json, "print JSON");
  CLI::App* list = group->add_subcommand("list", "the clusters that are known by name");
  auto l = on_chosen<ClusterListOptions>(
      list, chosen, [](const ClusterListOptions& o) { return run_cluster_list(o.json); });
  list->add_flag("--json", l->json, "print JSON");
  CLI::App* calibrate =
      group->add_subcommand("calibrate", "a cluster's figures from measurements, by least squares");
  auto c = on_chosen(calibrate, chosen, run_cluster_calibrate);
  add_text(calibrate, "--from", c->measurements,
           "CSV of timings; recipes/REFERENCE.md says what is in it")
      ->required()
      ->type_name("FILE");
  add_cluster(calibrate, "--base", c->base, "says what is not measured: ")->required();
  add_text(calibrate, "--out", c->out, "the new cluster file")->required()->type_name("FILE");
  calibrate->add_flag("--replace", c->replace, "write over a file that is there");
  calibrate->add_flag("--json", c->json, "print JSON");
}

void add_prepare(CLI::App* group, Chosen& chosen) {
  CLI::App* command = group->add_subcommand("prepare", "text files to a tokenizer and a corpus");
  auto o = on_chosen(command, chosen, run_data_prepare);
  add_text(command, "--out", o->out, "the corpus's folder")->required()->type_name("DIR");
  command->add_option("paths", o->paths, ".txt .md .pod .jsonl files, or folders of them")
      ->required()
      ->type_name("PATH");
  CLI::Option* vocab = add_number(command,
                                  {.name = "--vocab",
                                   .range = between(259, 1 << 24),
                                   .doc = "tokens of the tokenizer that is trained",
                                   .show_default = true},
                                  o->vocab);
  add_text(command, "--tokenizer", o->tokenizer, "use this tokenizer.json instead")
      ->type_name("FILE")
      ->excludes(vocab);
  add_number(command,
             {.name = "--held-out",
              .range = above_up_to(0, 0.9),
              .doc = "share of the text kept from training",
              .show_default = true},
             o->held_out);
  add_number(command,
             {.name = "--max-document-bytes",
              .range = between(64, 1e12),
              .doc = "longer documents are cut at line ends",
              .show_default = true},
             o->max_document_bytes);
  command->add_option("--source", o->source, "where the text is from; kept in the corpus");
  command->add_option("--licence", o->licence, "of the text; kept in the corpus");
  command->add_flag("--replace", o->replace, "replace a corpus that is there");
  command->add_flag("--json", o->json, "print JSON");
}

void add_data_commands(CLI::App& app, Chosen& chosen) {
  CLI::App* group = app.add_subcommand("data", "make and look at corpora");
  group->require_subcommand(1);
  add_prepare(group, chosen);
  CLI::App* inspect =
      group->add_subcommand("inspect", "what a corpus holds, and whether it is whole");
  auto i = on_chosen(inspect, chosen, run_data_inspect);
  add_text(inspect, "corpus", i->corpus, "its folder")->required()->type_name("DIR");
  inspect->add_flag("--json", i->json, "print JSON");
  CLI::App* encode = group->add_subcommand("encode", "text to token ids");
  auto e = on_chosen(encode, chosen, run_data_encode);
  add_text(encode, "--tokenizer", e->tokenizer, "tokenizer.json or its folder")
      ->required()
      ->type_name("FILE");
  add_text(encode, "file", e->file, "a UTF-8 text; - for standard input")
      ->required()
      ->type_name("FILE");
  encode->add_flag("--special-tokens", e->add_special_tokens,
                   "those of the tokenizer's template too");
  encode->add_flag("--json", e->json, "print a JSON list");
}

}  // namespace

int run_command_line(int argc, char** argv) {
  CLI::App app("Strait trains mixture-of-experts transformers through narrow links.", "strait");
  app.require_subcommand(1);
  app.set_version_flag("--version", kVersionText);
  Chosen chosen;
  add_train(app, chosen);
  add_eval(app, chosen);
  add_verify(app, chosen);
  add_generate(app, chosen);
  add_export(app, chosen);
  add_recipe_commands(app, chosen);
  add_data_commands(app, chosen);
  add_plan(app, chosen);
  add_cluster_commands(app, chosen);
  add_schedule(app, chosen);
  add_draw(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    throw RecipeError(describe_error(app, error));
  }
  if (const int ranks = launched_ranks().value_or(1);
      ranks > 1 && chosen.work == WorkOf::one_process)
    throw RecipeError(fmt::format(
        "this is the work of one process, but mpirun has started {}; start it without mpirun",
        ranks));
  return chosen.run();
}

}  // namespace strait
