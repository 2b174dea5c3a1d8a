#include "launch/command_line.h"

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>

#include "launch/commands/recipe.h"
#include "launch/commands/train.h"

namespace strait {
namespace {

// The command that was chosen, to be run once the whole line has been understood.
using Chosen = std::function<int()>;

// Options live as long as their command.
template <class Options>
std::shared_ptr<Options> options_of() {
  return std::make_shared<Options>();
}

void add_recipe(CLI::App* command, std::string& recipe, std::vector<std::string>& overrides) {
  command->add_option("recipe", recipe, "the recipe, a YAML file")->required()->type_name("FILE");
  command->add_option("--set", overrides, "change a key of the recipe; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

void add_train(CLI::App& app, Chosen& chosen, StopSignal& stop) {
  auto o = options_of<TrainOptions>();
  CLI::App* command = app.add_subcommand("train", "train, or go on training, a model from a recipe");
  add_recipe(command, o->recipe, o->overrides);
  command->add_option("--run", o->run_folder, "folder of the run (default: run.dir/run.name of the recipe)")
      ->type_name("DIR");
  command->add_flag("--dry-run", o->dry_run, "say what the run would take, and stop");
  command->add_option("--ranks", o->planned_ranks, "of a dry run: plan for so many ranks")
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--local-ranks", o->local_ranks, "run so many ranks as threads of this process")
      ->check(CLI::Range(1, 256));
  command->add_flag("--json", o->json, "print lines of JSON");
  command->footer("Under mpirun, every process is a rank. The same command again goes on from the newest checkpoint.\n"
                  "SIGUSR1 to mpirun, or SIGTERM to a rank, saves and stops with exit code 143.");
  command->callback([o, &chosen, &stop] { chosen = [o, &stop] { return run_train(*o, stop); }; });
}

struct RecipeOptions {
  std::string recipe, key;
  std::vector<std::string> overrides;
  int ranks = 0;
};

void add_recipe_commands(CLI::App& app, Chosen& chosen) {
  CLI::App* group = app.add_subcommand("recipe", "explain recipe keys, show a recipe in full, check it");
  group->require_subcommand(1);
  auto o = options_of<RecipeOptions>();
  CLI::App* explain = group->add_subcommand("explain", "what a key, a section, or everything means");
  explain->add_option("key", o->key, "for example model.hidden_size, or model");
  explain->callback([o, &chosen] { chosen = [o] { return run_recipe_explain(o->key); }; });
  CLI::App* show = group->add_subcommand("show", "the recipe with every default written out");
  add_recipe(show, o->recipe, o->overrides);
  show->callback([o, &chosen] { chosen = [o] { return run_recipe_show(o->recipe, o->overrides); }; });
  CLI::App* check = group->add_subcommand("check", "all problems of a recipe");
  add_recipe(check, o->recipe, o->overrides);
  check->add_option("--ranks", o->ranks, "also whether so many ranks can run it")->check(CLI::Range(1, 1 << 20));
  check->callback([o, &chosen] {
    chosen = [o] { return run_recipe_check(o->recipe, o->overrides, o->ranks); };
  });
}

}  // namespace

int run_command_line(int argc, char** argv, StopSignal& stop) {
  CLI::App app("Strait trains mixture-of-experts transformers through narrow links.", "strait");
  app.require_subcommand(1);
  app.set_version_flag("--version", "strait 0.1.0");
  Chosen chosen;
  add_train(app, chosen, stop);
  add_recipe_commands(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return chosen();
}

}  // namespace strait
