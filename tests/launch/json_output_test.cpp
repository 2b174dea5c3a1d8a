// With --json, stdout of every command is lines of JSON and nothing else; what is said besides goes
// to stderr.
#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/launch/bad_input_lab.h"

namespace strait::tests {
namespace {

const std::string kRecipes = STRAIT_SOURCE_DIR "/recipes/";

// The objects of all lines; one that does not parse fails.
std::vector<nlohmann::json> lines_of(const std::string& output) {
  std::vector<nlohmann::json> objects;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    objects.push_back(nlohmann::json::parse(line, nullptr, false));
    EXPECT_FALSE(objects.back().is_discarded()) << line;
  }
  return objects;
}

TEST(JsonOutput, OfEveryCommand) {
  const Lab lab;
  const std::vector<std::string> pipeline = {"--ranks", "4", "--micro-batches", "8"};
  const auto with = [](std::vector<std::string> command, const std::vector<std::string>& further) {
    command.insert(command.end(), further.begin(), further.end());
    return command;
  };
  const std::vector<std::vector<std::string>> commands = {
      {"data", "prepare", "--out", "other", "--vocab", "300", "texts"},
      {"data", "inspect", "corpus"},
      {"data", "encode", "--tokenizer", "corpus", "text.txt"},
      {"train", "tiny.yaml", "--dry-run", "--ranks", "2"},
      {"eval", "--model", "model", "--text", "text.txt"},
      {"generate", "--model", "model", "--prompt", "the", "--max-tokens", "4"},
      {"export", "--from", "runs/tiny", "--to", "new"},
      {"verify", "tiny.yaml", "--local-ranks", "2", "--steps", "1", "--free-steps", "1"},
      {"plan", "tiny.yaml", "--cluster", "netlab", "--ranks", "4"},
      {"recipe", "formats", "tiny.yaml"},
      {"cluster", "list"},
      {"cluster", "show", "netlab"},
      {"cluster", "calibrate", "--from", kRecipes + "clusters/measurements/deepgemm-h800.csv",
       "--base", "h800-2048", "--out", "fitted.yaml"},
      with({"schedule", "--name", "zb1p"}, pipeline),
      with({"schedule", "--print", "--name", "zb1p"}, pipeline),
      with({"draw", "--schedule", "zb1p", "--out", "page.html", "--perfetto", "a.json"}, pipeline),
      {"draw", "--compare", "a.json", "a.json"}};
  for (std::vector<std::string> command : commands) {
    const std::string name = command[0] + " " + command[1];
    command.emplace_back("--json");
    Strait strait(command, {.folder = lab.folder()});
    EXPECT_EQ(strait.code(), 0) << name << ": " << strait.errors();
    SCOPED_TRACE(name);
    EXPECT_EQ(lines_of(strait.output()).size(), 1U);
  }
}

TEST(JsonOutput, OfARunThatGoesOnAndIsStopped) {
  const Lab lab;
  const auto train = [&](const std::vector<std::string>& overrides) {
    std::vector<std::string> command = train_new(overrides);
    command.emplace_back("--json");
    return std::make_unique<Strait>(command, ProcessOptions{.folder = lab.folder()});
  };
  const auto first = train({"train.eval_every=2"});
  EXPECT_EQ(first->code(), 0);
  std::map<std::string, int> kinds;
  for (const nlohmann::json& line : lines_of(first->output())) {
    ++kinds[line.value("kind", "none")];
    if (line.value("kind", "none") == "step") {
      EXPECT_GT(line.value("share_of_peak", -1.0), 0) << line;
    }
  }
  EXPECT_EQ(kinds, (std::map<std::string, int>{{"step", 4}, {"held_out", 3}, {"memory", 1}}));
  EXPECT_NE(first->errors().find("saved "), std::string::npos) << first->errors();

  const auto second = train({"train.steps=1000000", "train.save_every=0", "schedule.peak_lr=2e-3"});
  second->wait_for_output("\"kind\":\"step\"");
  second->send_signal(SIGTERM);
  EXPECT_EQ(second->code(), 143);
  EXPECT_FALSE(lines_of(second->output()).empty());
  for (const char* said : {"resumed from", "changed since it was saved", "stopped as asked"})
    EXPECT_NE(second->errors().find(said), std::string::npos) << second->errors();
}

}  // namespace
}  // namespace strait::tests
