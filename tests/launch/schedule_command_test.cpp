#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "launch/commands/schedule.h"

namespace strait {
namespace {

using Json = nlohmann::json;

std::string output_of(const ScheduleCommandOptions& options) {
  testing::internal::CaptureStdout();
  int code = -1;
  try {
    code = run_schedule(options);
  } catch (const RecipeError& error) {
    testing::internal::GetCapturedStdout();
    return std::string("error: ") + error.what();
  }
  EXPECT_EQ(code, 0);
  return testing::internal::GetCapturedStdout();
}

Json json_of(ScheduleCommandOptions options) {
  options.json = true;
  return Json::parse(output_of(options));
}

TEST(ScheduleCommand, DualPipeInNumbers) {
  const Json json = json_of({.name = "dualpipe", .ranks = 8, .microbatches = 20});
  EXPECT_EQ(json["makespan"], 66);
  EXPECT_EQ(json["bubble"], 6);
  EXPECT_EQ(json["peak_live_until_backward"], 9);
  EXPECT_EQ(json["per_rank"].size(), 8u);
  EXPECT_EQ(json["per_rank"][0]["bubble"], 6);
  EXPECT_EQ(json["per_rank"][7]["stages"][1]["stage"], 0);
  EXPECT_EQ(json["times"]["FB"], 3);
}

TEST(ScheduleCommand, TextHasTheSame) {
  const std::string text = output_of({.name = "dualpipe", .ranks = 16, .microbatches = 120});
  for (const char* line :
       {"schedule   dualpipe: 16 ranks, 16 stages in 2 copies, 120 micro-batches\n",
        "makespan   374\n", "bubble     14 on the rank with the most, 3.7% of the makespan\n",
        "peak live  17 micro-batches of one stage, freed after B"})
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
}

TEST(ScheduleCommand, PrintedOutputCanBeReadAgain) {
  for (bool pair : {false, true}) {
    const ScheduleCommandOptions first{.name = "zb1p",
                                       .ranks = 4,
                                       .microbatches = 8,
                                       .times = "F=1.5,B=3,W=1,FB=3",
                                       .pair = pair,
                                       .print = true};
    const std::string path = testing::TempDir() + "schedule_command_test.txt";
    std::ofstream(path) << output_of(first);
    const Json made = json_of(first);
    const Json read = json_of({.file = path, .times = first.times, .print = true});
    EXPECT_EQ(made["makespan"], read["makespan"]);
    EXPECT_EQ(made["per_rank"], read["per_rank"]);
    EXPECT_EQ(made["text"], read["text"]);
  }
}

TEST(ScheduleCommand, PairingShowsWhatItDid) {
  const ScheduleCommandOptions options{
      .name = "1f1b", .ranks = 1, .microbatches = 10, .times = "F=2,B=3,FB=4", .pair = true};
  const Json json = json_of(options);
  EXPECT_EQ(json["makespan"], 2 + 9 * 4 + 3);
  EXPECT_EQ(json["pairing"]["makespan_before"], 50);
  EXPECT_DOUBLE_EQ(json["paired_share"], 0.9);
  EXPECT_NE(output_of(options).find("pairing    "), std::string::npos);
}

TEST(ScheduleCommand, StageCosts) {
  const Json json = json_of(
      {.name = "1f1b", .ranks = 2, .microbatches = 4, .times = "F=1,B=2", .stage_costs = "1,3"});
  EXPECT_EQ(json["makespan"], 39);
  EXPECT_EQ(json["per_rank"][1]["busy"], 36);
}

TEST(ScheduleCommand, RefusalsNameTheOption) {
  EXPECT_EQ(output_of({.name = "dualpipe", .ranks = 7, .microbatches = 20}),
            "error: --ranks = 7: dualpipe needs an even number, as the copies of a stage are at "
            "mirrored positions; the nearest that works: 6 or 8");
  EXPECT_EQ(output_of({.name = "dualpipe", .ranks = 8, .microbatches = 12}),
            "error: --micro-batches = 12: dualpipe needs at least two for each of its 8 positions; "
            "the nearest that works: 16");
  EXPECT_EQ(output_of({.name = "interleaved", .ranks = 4, .microbatches = 8, .chunks = -1}),
            "error: --chunks = -1: interleaved takes 0 to 256; the nearest that works: 0");
  EXPECT_EQ(output_of({}),
            "error: schedule takes either --name or --file; names are 1f1b, interleaved, zb1p, "
            "zbv, dualpipe, dualpipev");
  EXPECT_EQ(output_of({.name = "1f1b", .ranks = 4}),
            "error: schedule --name needs --ranks and --micro-batches, both 1 at least");
  EXPECT_EQ(output_of({.name = "1f1b", .ranks = 4, .microbatches = 8, .times = "F=1;B=2"}),
            "error: --times 'F=1;B=2': F = '1;B=2' is not a number above 0; it reads like "
            "F=1,B=2,W=1,FB=3, in any unit");
  EXPECT_EQ(output_of({.name = "1f1b", .ranks = 2, .microbatches = 8, .stage_costs = "1,x"}),
            "error: --stage-costs '1,x': 'x' is not a number above 0; it reads like 1,1.5,1: for "
            "each stage how many times as long its slots take");
  EXPECT_EQ(
      output_of({.name = "1f1b", .ranks = 2, .microbatches = 8, .times = "F=1,B=2", .pair = true}),
      "error: --pair needs the time FB of a pair in --times, for example FB=3");
}

}  // namespace
}  // namespace strait
