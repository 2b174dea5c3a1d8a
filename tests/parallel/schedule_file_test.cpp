#include "parallel/pipeline/schedule_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "core/errors.h"
#include "parallel/pipeline/pairing.h"
#include "tests/parallel/schedule_samples.h"

namespace strait {
namespace {

const std::string kSmall =
    "schedule small\n"                             // 1
    "micro-batches 2\n"                            // 2
    "position 0 holds 0\n"                         // 3
    "position 1 holds 1   # the last stage\n"      // 4
    "\n"                                           // 5
    "# the order\n"                                // 6
    "position 0 runs F0.0 F1.0 B0.0 B1.0\n"        // 7
    "position 1 runs F0.0 F1.0&B0.0 I1.0 W1.0\n";  // 8

std::string with(const std::string& old_text, const std::string& new_text) {
  std::string text = kSmall;
  const size_t at = text.find(old_text);
  EXPECT_NE(at, std::string::npos) << old_text;
  return text.replace(at, old_text.size(), new_text);
}

std::string refusal(const std::string& text) {
  return message_of<RecipeError>([&] { parse_schedule(text, "f.txt"); });
}

void expect_round_trip(const Schedule& s) {
  const Schedule read = parse_schedule(schedule_text(s), "f.txt");
  EXPECT_EQ(read.name, s.name);
  EXPECT_EQ(read.num_microbatches, s.num_microbatches);
  EXPECT_EQ(read.num_stages, s.num_stages);
  EXPECT_EQ(read.num_copies, s.num_copies);
  EXPECT_EQ(read.chunks, s.chunks);
  EXPECT_EQ(read.slots, s.slots);
}

TEST(ScheduleFile, Read) {
  const Schedule s = parse_schedule(kSmall, "f.txt");
  EXPECT_EQ(s.name, "small");
  EXPECT_EQ(s.num_stages, 2);
  EXPECT_EQ(s.num_copies, 1);
  EXPECT_EQ(words(s.slots[1]), "F0.0 F1.0&B0.0 I1.0 W1.0 ");
  EXPECT_TRUE(s.slots[1][1].paired);
  EXPECT_EQ(schedule_text(s),
            "schedule small\nmicro-batches 2\n"
            "position 0 holds 0.0\nposition 1 holds 1.0\n"
            "position 0 runs F0.0 F1.0 B0.0 B1.0\nposition 1 runs F0.0 F1.0&B0.0 I1.0 W1.0\n");
}

TEST(ScheduleFile, EndsOfLinesAndOrderOfLinesDoNotMatter) {
  EXPECT_EQ(parse_schedule("position 0\truns F0.0  B0.0\r\nposition 0 holds 0\r\n"
                           "micro-batches 1\r\nschedule s",
                           "f.txt")
                .slots[0]
                .size(),
            2u);
}

TEST(ScheduleFile, RoundTrip) {
  for (int positions : {1, 2, 3, 4, 8})
    for (int microbatches : {1, 2 * positions, 5 * positions})
      for (const Schedule& s : all_that_fit(positions, microbatches)) {
        expect_round_trip(s);
        expect_round_trip(pair_neighbours(s));
      }
  for (uint32_t seed = 0; seed < 200; ++seed)
    expect_round_trip(pair_neighbours(random_schedule(seed)));
}

TEST(ScheduleFile, MissingAndDoubledSlots) {
  EXPECT_EQ(refusal(with("B0.0 B1.0", "B1.0")), "f.txt:7: position 0: B0.0 is missing");
  EXPECT_EQ(refusal(with("runs F0.0 F1.0&", "runs F1.0&")), "f.txt:8: position 1: F0.0 is missing");
  EXPECT_EQ(refusal(with(" W1.0", "")), "f.txt:8: position 1: W1.0 is missing");
  EXPECT_EQ(refusal(with("I1.0 W1.0", "W1.0")), "f.txt:8: position 1: I1.0 is missing");
  EXPECT_EQ(refusal(with("B0.0 B1.0", "B0.0 B0.0 B1.0")),
            "f.txt:7: position 0, slot 3 (B0.0): comes twice; the first is slot 2");
  EXPECT_EQ(refusal(with("W1.0", "W1.0 F0.0")),
            "f.txt:8: position 1, slot 5 (F0.0): comes twice; the first is slot 0");
  EXPECT_EQ(refusal(with("W1.0", "W1.0 B1.0")),
            "f.txt:8: position 1, slot 5 (B1.0): has its backward whole and in parts; it takes one "
            "of them");
}

TEST(ScheduleFile, SlotsThatCannotBe) {
  EXPECT_EQ(refusal(with("F0.0 F1.0 B0.0", "F0.0 B0.0 F1.0")),
            "f.txt:7: position 0, slot 1 (B0.0): waits for ever for the gradient of stage 1 at "
            "position 1, which waits as well");
  EXPECT_EQ(refusal(with("B1.0\n", "B2.0\n")),
            "f.txt:7: position 0, slot 3 (B2.0): there is no micro-batch 2, only 2");
  EXPECT_EQ(refusal(with("B1.0\n", "B1.1\n")),
            "f.txt:7: position 0, slot 3 (B1.1): there is no chunk 1, only 1");
  EXPECT_EQ(refusal(with("F1.0&B0.0", "B0.0&F1.0")),
            "f.txt:8: position 1, slot 1 (B0.0): a pair is a forward, then a backward or an input "
            "gradient");
  EXPECT_EQ(refusal(with("F1.0&B0.0 I1.0", "F1.0&B0.0&I1.0")),
            "f.txt:8: position 1, slot 1 (F1.0): begins a pair whose second slot begins another");
  const std::string no_slot =
      "is no slot; those read like F0.0, B0.0, I0.0, W0.0 (micro-batch.chunk) or F1.0&B0.0";
  for (const std::string word : {"X0.0", "F0", "F.0", "F0.", "F-1.0", "F1.0&", "&B0.0", "F1.0.0",
                                 "F1e1.0", "F99999999999.0", "f0.0", "F1.0B0.0"})
    EXPECT_EQ(refusal(with("F1.0&B0.0", word)), "f.txt:8: '" + word + "' " + no_slot);
}

TEST(ScheduleFile, ChunksThatCannotBe) {
  EXPECT_EQ(refusal(with("holds 1 ", "holds 0 ")),
            "f.txt:4: position 1: holds stage 0, copy 0, and so does position 0");
  EXPECT_EQ(refusal(with("holds 1 ", "holds 1.1 ")),
            "f.txt:4: position 1: holds stage 1, copy 1; there are 2 stages, copies 1");
  EXPECT_EQ(refusal(with("holds 1 ", "holds 2 ")), "f.txt:8: no position holds stage 1, copy 0");
  EXPECT_EQ(refusal(with("holds 1 ", "holds 1048576 ")),
            "f.txt:8: no position holds stage 1, copy 0");
  EXPECT_EQ(refusal(with("holds 1 ", "holds one ")),
            "f.txt:4: 'one' is no chunk; those read like 3 or 3.1: stage.copy");
}

TEST(ScheduleFile, LinesThatCannotBe) {
  EXPECT_EQ(refusal(""), "f.txt:0: there is no line 'schedule NAME'");
  EXPECT_EQ(refusal("schedule s\n"), "f.txt:1: there is no line 'micro-batches N'");
  EXPECT_EQ(refusal("schedule s\nmicro-batches 1\nposition 0 runs F0.0"),
            "f.txt:3: there is no line 'position 0 holds ...'");
  EXPECT_EQ(refusal("schedule s\nmicro-batches 1\nposition 0 holds 0\n"),
            "f.txt:3: there is no line 'position 0 runs ...'; there are 1 positions");
  EXPECT_EQ(refusal(with("position 1 runs", "position 2 runs")),
            "f.txt:8: there is no line 'position 2 holds ...'; there are 3 positions");
  EXPECT_EQ(refusal(with("position 1 runs", "position 0 runs")),
            "f.txt:8: position 0 has such a line already, line 7");
  EXPECT_EQ(refusal(with("position 0 runs F0.0 F1.0 B0.0 B1.0", "position 0 runs")),
            "f.txt:7: position 0 runs nothing");
  const std::string form =
      "a position reads like 'position 0 holds 0.0' or 'position 0 runs F0.0 B0.0'";
  EXPECT_EQ(refusal(with("position 0 runs", "position 0 does")), "f.txt:7: " + form);
  EXPECT_EQ(refusal(with("position 0 runs", "position zero runs")), "f.txt:7: " + form);
  EXPECT_EQ(refusal(with("micro-batches 2", "micro-batches 0")),
            "f.txt:2: 'micro-batches' takes a number from 1 to 1048576, not '0'");
  EXPECT_EQ(refusal(with("micro-batches 2", "micro-batches 2 3")),
            "f.txt:2: 'micro-batches' takes one word");
  EXPECT_EQ(refusal(with("micro-batches 2", "microbatches 2")),
            "f.txt:2: 'microbatches' begins no line; schedule, micro-batches, copies and position "
            "do");
  EXPECT_EQ(refusal(with("# the order", "schedule other")),
            "f.txt:6: 'schedule' comes a second time; the first is line 1");
}

// Bytes changed, dropped and doubled: a schedule that is whole, or one clear error.
TEST(ScheduleFile, DamagedTextIsReadOrRefused) {
  std::mt19937 random(11);
  const std::string whole = schedule_text(made("dualpipe", 4, 8));
  int read = 0, refused = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    std::string text = whole;
    for (int edits = 1 + static_cast<int>(random() % 3); edits > 0; --edits) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] =
              static_cast<char>(random() % 2 == 0 ? random() % 256 : text[random() % text.size()]);
          break;
        case 1:
          text.erase(at, 1 + random() % 8);
          break;
        default:
          text.insert(at, text.substr(at, 1 + random() % 8));
      }
    }
    try {
      check_schedule(parse_schedule(text, "f.txt"));
      ++read;
    } catch (const RecipeError& error) {
      ++refused;
      EXPECT_TRUE(std::string(error.what()).starts_with("f.txt:")) << error.what();
    }
  }
  EXPECT_GT(read, 0);
  EXPECT_GT(refused, 2000);
}

// A file in a folder of the test's own.
std::string file_with(const std::string& text) {
  const std::string path = testing::TempDir() + "schedule_file_test.txt";
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

TEST(ScheduleFile, AFileThatCannotBeRead) {
  const auto refusal_of = [](const std::string& path) {
    return message_of<RecipeError>([&] { read_schedule(path); });
  };
  EXPECT_EQ(refusal_of("/nowhere/s.txt"),
            "/nowhere/s.txt: this schedule cannot be read: No such file or directory");
  EXPECT_EQ(refusal_of("/"), "/: this schedule is a folder, not a file");
  const std::string path = file_with("");
  EXPECT_EQ(refusal_of(path), path + ": this schedule is empty");
}

TEST(ScheduleFile, WhatIsNoText) {
  EXPECT_EQ(refusal(with("schedule", std::string("sche\0dule", 9))),
            "f.txt:1: byte 0x00 is no text of a schedule; only comments take any");
  EXPECT_EQ(refusal("\x89PNG\r\n"),
            "f.txt:1: byte 0x89 is no text of a schedule; only comments take any");
  EXPECT_EQ(refusal(with("# the order", "# \xE9")), "");
  EXPECT_EQ(refusal(std::string(1000, 'x')),
            "f.txt:1: '" + std::string(40, 'x') +
                "...' begins no line; schedule, micro-batches, copies and position do");
}

TEST(ScheduleFile, MorePassesThanMemoryHolds) {
  std::string text = "schedule s\nmicro-batches 1048576\nposition 0 holds 0 1 2 3 4\n";
  EXPECT_EQ(refusal(text + "position 0 runs F0.0\n"),
            "f.txt:2: 1048576 micro-batches through 5 chunks are more than 4194304 passes; at most "
            "838860");
}

TEST(ScheduleFile, FromDisk) {
  const std::string path = file_with(kSmall);
  EXPECT_EQ(read_schedule(path).slots, parse_schedule(kSmall, path).slots);
}

TEST(ScheduleFile, MustBeForWhatIsRun) {
  const std::string path = file_with(kSmall), name = "file:" + path;
  const auto problem = [&](ScheduleOptions options) {
    const std::string found = message_of<RecipeError>([&] { find_schedule(name, options); });
    EXPECT_EQ(message_of<RecipeError>([&] { require_found_schedule(name, options); }), found);
    return found;
  };
  EXPECT_EQ(problem({.positions = 2, .microbatches = 2}), "");
  EXPECT_EQ(problem({.positions = 0, .microbatches = 0}), "");
  EXPECT_EQ(
      problem({.positions = 4, .microbatches = 2}),
      "positions = 4: the schedule in " + path + " is for 2 positions; the nearest that works: 2");
  EXPECT_EQ(problem({.positions = 2, .microbatches = 3}),
            "micro_batches = 3: the schedule in " + path +
                " is for 2 micro-batches; the nearest that works: 2");
  EXPECT_EQ(problem({.positions = 2, .microbatches = 2, .chunks = 2}),
            "chunks = 2: the schedule in " + path +
                " is for 1 chunks a position; the nearest that works: 1");
}

}  // namespace
}  // namespace strait
