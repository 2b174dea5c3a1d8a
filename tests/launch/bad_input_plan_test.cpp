// What plan, schedule, draw and cluster say to settings, schedules, clusters and traces that cannot
// be: one message on stderr that names what, where and what would work, the right exit code, and no
// file left behind.
#include <gtest/gtest.h>

#include "tests/launch/bad_input_lab.h"

namespace strait::tests {
namespace {

const std::string kRecipes = STRAIT_SOURCE_DIR "/recipes/";

std::vector<std::string> schedule(const std::vector<std::string>& further) {
  std::vector<std::string> command{"schedule", "--name", "dualpipe"};
  command.insert(command.end(), further.begin(), further.end());
  return command;
}

std::vector<std::string> plan(const std::string& recipe, const std::vector<std::string>& further) {
  std::vector<std::string> command{"plan", kRecipes + recipe, "--cluster", "h800-2048"};
  command.insert(command.end(), further.begin(), further.end());
  return command;
}

TEST(BadInputPlan, SchedulesThatDoNotFit) {
  const std::string even =
      " = 7: dualpipe needs an even number, as the copies of a stage are at mirrored positions; "
      "the nearest that works: 6 or 8";
  expect_all({
      {"odd ranks", schedule({"--ranks", "7", "--micro-batches", "20"}), 2, "--ranks" + even},
      {"too few micro-batches", schedule({"--ranks", "8", "--micro-batches", "10"}), 2,
       "--micro-batches = 10: dualpipe needs at least two for each of its 8 positions; the nearest "
       "that works: 16"},
      {"unknown name",
       {"schedule", "--name", "dualpip", "--ranks", "8", "--micro-batches", "20"},
       2,
       "there is no schedule 'dualpip'; there are 1f1b, interleaved, zb1p, zbv, dualpipe, "
       "dualpipev"},
      {"too many ranks", schedule({"--ranks", "4000", "--micro-batches", "1000000"}), 2,
       "--ranks: 4000 is out of range \\(at least 1, at most 1024\\)"},
      {"no ranks", schedule({"--ranks", "0", "--micro-batches", "4"}), 2,
       "--ranks: 0 is out of range .*"},
      {"huge", schedule({"--ranks", "8", "--micro-batches", "1e99"}), 2,
       "--micro-batches: '1e99' does not fit a 64-bit number"},
      {"a time that is a word",
       schedule({"--ranks", "8", "--micro-batches", "20", "--times", "F=1,B=two"}), 2,
       "--times 'F=1,B=two': B = 'two' is not a number above 0; .*"},
      {"a time of nothing known",
       schedule({"--ranks", "8", "--micro-batches", "20", "--times", "F=1,X=2"}), 2,
       "--times 'F=1,X=2': there is no time 'X', only F, B, W and FB; .*"},
      {"a time of zero", schedule({"--ranks", "8", "--micro-batches", "20", "--times", "F=0"}), 2,
       "--times 'F=0': F = '0' is not a number above 0; .*"},
      {"a negative time", schedule({"--ranks", "8", "--micro-batches", "20", "--times", "W=-1"}), 2,
       "--times 'W=-1': W = '-1' is not a number above 0; .*"},
      {"unknown option", schedule({"--ranks", "8", "--micro-batches", "20", "--timez", "F=1"}), 2,
       "unknown option '--timez'; did you mean '--times'\\? .*"},
      {"given twice", schedule({"--ranks", "8", "--ranks", "8", "--micro-batches", "20"}), 2,
       "--ranks is given more than once .*"},
      {"half of what it needs", schedule({"--ranks", "8"}), 2,
       "schedule --name needs --ranks and --micro-batches, both 1 at least"},
      {"drawn",
       {"draw", "--schedule", "dualpipe", "--ranks", "7", "--micro-batches", "20", "--out",
        "page.html"},
       2,
       "--ranks" + even},
  });
}

// A schedule of two positions that works, and what a slip makes of it.
const std::string kSchedule =
    "schedule mine\nmicro-batches 2\nposition 0 holds 0\nposition 1 holds 1\n"
    "position 0 runs F0.0 F1.0 B0.0 B1.0\nposition 1 runs F0.0 B0.0 F1.0 B1.0\n";

TEST(BadInputPlan, ScheduleFiles) {
  const auto changed = [](const std::string& name, const std::string& from, const std::string& to,
                          const std::string& message) {
    return Case{name,
                {"schedule", "--file", "mine.txt"},
                2,
                message,
                all({write("mine.txt", kSchedule), edit("mine.txt", from, to)})};
  };
  expect_all({
      changed("a missing slot", "B0.0 B1.0\nposition 1", "B0.0\nposition 1",
              "mine.txt(:5)?: .*position 0.*1\\.0.*"),
      changed("a doubled slot", "F0.0 F1.0 B0.0", "F0.0 F1.0 B0.0 B0.0",
              "mine.txt:5: position 0, slot 3 \\(B0.0\\): comes twice; the first is slot 2"),
      changed("a micro-batch too many", "F1.0 B1.0\n", "F1.0 B1.0 F7.0 B7.0\n",
              "mine.txt:6: position 1, slot 4 \\(F7.0\\): .*"),
      changed("a chunk that is not there", "position 1 runs F0.0", "position 1 runs F0.3",
              "mine.txt:6: position 1, slot 0 \\(F0.3\\): there is no chunk 3, only 1"),
      changed("backward first", "runs F0.0 B0.0", "runs B0.0 F0.0", "mine.txt:?6?: .*B0.0.*"),
      changed("a word", "F0.0 F1.0", "F0.0 forward", "mine.txt:5: .*'forward'.*"),
      changed("a position twice", "position 1 holds 1", "position 0 holds 1",
              "mine.txt:4: .*position 0.*"),
      {"empty", {"schedule", "--file", "mine.txt"}, 2, "mine.txt.*", write("mine.txt", "")},
      {"missing",
       {"schedule", "--file", "mine.txt"},
       2,
       "mine.txt: this schedule cannot be read: No such file or directory"},
      {"a folder", {"schedule", "--file", "mine.txt"}, 2, "mine.txt: .*", make_folder("mine.txt")},
      {"named in a recipe",
       plan("quickstart.yaml",
            {"--no-search", "--ranks", "4", "--set", "parallel.schedule=file:mine.txt"}),
       2,
       "--set parallel.schedule=file:mine.txt: mine.txt: this schedule cannot be read: No such "
       "file or directory"},
  });
}

TEST(BadInputPlan, Plans) {
  expect_all({
      {"no cluster", {"plan", kRecipes + "deepseek-v2-lite.yaml"}, 2, "--cluster is required .*"},
      {"unknown cluster",
       {"plan", kRecipes + "deepseek-v2-lite.yaml", "--cluster", "h900"},
       2,
       "no cluster 'h900'; a cluster is a file, or one of: a800-pcie, gb200, h100-2048, "
       "h800-2048, netlab, rtx4090-ethernet"},
      {"tokens", plan("deepseek-v2-lite.yaml", {"--tokens", "14.8X"}), 2,
       "--tokens: '14.8X' is not a number of tokens; write for example 14.8T, 500B or 2.3M"},
      {"price", plan("deepseek-v2-lite.yaml", {"--price", "-2"}), 2,
       "--price: -2 is out of range .*"},
      {"no recipe",
       {"plan", "missing.yaml", "--cluster", "h800-2048"},
       2,
       "missing.yaml: cannot be read: No such file or directory"},
      {"a batch that no layout splits",
       plan("deepseek-v2-lite.yaml", {"--set", "train.global_batch=8"}), 2,
       ".*train.global_batch: 8 sequences do not split over 2048 ranks with micro_batch = 1; the "
       "nearest that do: 2048"},
      {"more stages than layers",
       plan("deepseek-v2-lite.yaml", {"--no-search", "--ranks", "64", "--set",
                                      "parallel.pipeline=32", "--set", "parallel.expert=2"}),
       2, ".*parallel.pipeline.*at most 27"},
      {"a ramp through too few micro-batches",
       plan("deepseek-v3.yaml",
            {"--no-search", "--set", "train.batch_ramp.from=3072", "--set",
             "train.batch_ramp.increment=1024", "--set", "train.batch_ramp.tokens=469000000000"}),
       2,
       ".*train.batch_ramp.from: 3072 sequences grow by 1024 to 15360, and a step of 3072 cannot "
       "be: .* = 24: dualpipe needs at least two .*; the nearest `from` that works: 4096"},
      {"a model that does not fit",
       plan("deepseek-v2-lite.yaml", {"--no-search", "--ranks", "8", "--set",
                                      "train.micro_batch=16", "--set", "parallel.expert=1"}),
       2,
       ".*its layout needs \\d+\\.\\d GB of the 79\\.8 GB that a rank of h800-2048 can use; the "
       "nearest that fits: pipeline 1, expert \\d+, 1f1b, micro-batch \\d+"},
  });
}

TEST(BadInputPlan, Clusters) {
  const auto changed = [](const std::string& name, const std::string& from, const std::string& to,
                          const std::string& message) {
    return Case{name,
                {"cluster", "show", "mine.yaml"},
                2,
                message,
                all({copy(kRecipes + "clusters/h800-2048.yaml", "mine.yaml"),
                     edit("mine.yaml", from, to)})};
  };
  expect_all({
      changed("a missing figure", "card_bandwidth:", "# card_bandwidth:",
              "mine.yaml: missing key 'card_bandwidth': .*"),
      changed("an unknown key", "card_bandwidth:", "card_bandwith:",
              "mine.yaml:\\d+: unknown key 'card_bandwith'.*did you mean "
              "'card_bandwidth'\\?\nmine.yaml: missing key 'card_bandwidth': .*"),
      changed("a wrong unit", "{value: 50 GB/s", "{value: 50 GHz",
              "mine.yaml:\\d+: card_bandwidth.*50 GHz.*"),
      changed("negative", "{value: 50 GB/s", "{value: -50 GB/s",
              "mine.yaml:\\d+: card_bandwidth.*"),
      changed("zero", "{value: 50 GB/s", "{value: 0 GB/s", "mine.yaml:\\d+: card_bandwidth.*"),
      changed("doubled", "card_bandwidth:", "nodes: {value: 2, source: me}\ncard_bandwidth:",
              "mine.yaml:\\d+: key 'nodes' is here a second time; .*"),
      changed("not YAML", "card_bandwidth:", "card_bandwidth: [",
              "mine.yaml:\\d+:\\d+: not YAML: .*"),
      {"missing",
       {"cluster", "show", "mine.yaml"},
       2,
       "mine.yaml: cannot be read: No such file or directory"},
      {"unknown", {"cluster", "show", "h900"}, 2, "no cluster 'h900'; .*"},
      {"unknown command", {"cluster", "frobnicate"}, 2, "unknown command 'frobnicate' .*"},
      {"no measurements",
       {"cluster", "calibrate", "--from", "mine.csv", "--base", "netlab", "--out", "new.yaml"},
       3,
       "cannot read measurements mine.csv: No such file or directory"},
      {"measurements without columns",
       {"cluster", "calibrate", "--from", "mine.csv", "--base", "netlab", "--out", "new.yaml"},
       3,
       "mine.csv:1: no column 'seconds'; .*",
       write("mine.csv", "what,flops\n")},
      {"a measurement that is no number",
       {"cluster", "calibrate", "--from", "mine.csv", "--base", "netlab", "--out", "new.yaml"},
       3,
       "mine.csv:2: .*'soon'.*",
       write("mine.csv", "what,bytes,seconds\nfar_message,1e9,soon\n")},
  });
}

TEST(BadInputPlan, Drawings) {
  const std::vector<std::string> compare{"draw", "--compare", "a.json", "b.json"};
  expect_all({
      {"no place to write",
       {"draw", "--schedule", "1f1b", "--ranks", "2", "--micro-batches", "4", "--out",
        "nowhere/page.html"},
       3,
       "nowhere/page.html: cannot be written: No such file or directory"},
      {"a folder to write to",
       {"draw", "--schedule", "1f1b", "--ranks", "2", "--micro-batches", "4", "--out", "page.html"},
       3,
       "page.html: .*Is a directory",
       make_folder("page.html")},
      {"no trace", compare, 3, "a.json: No such file or directory"},
      {"half a trace", compare, 3, "a.json: is damaged or cut short: .*",
       write("a.json", "{\"traceEvents\": [")},
      {"another program's trace", compare, 3, "a.json: is not a trace of Strait: .*",
       write("a.json", "{\"traceEvents\": []}")},
  });
}

}  // namespace
}  // namespace strait::tests
