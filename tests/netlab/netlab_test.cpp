// Two nodes with slow links: what exchanges say they send is what the kernel counts on the links,
// and a layout over nodes trains as one rank does.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <regex>
#include <string>
#include <vector>

namespace {

struct Ended {
  int code = -1;
  std::string output;  // stdout and stderr
};

Ended run(const std::string& command) {
  Ended ended;
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return ended;
  std::array<char, 4096> part{};
  while (const size_t size = std::fread(part.data(), 1, part.size(), pipe))
    ended.output.append(part.data(), size);
  const int status = pclose(pipe);
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ended;
}

class Netlab : public testing::Test {
 protected:
  void SetUp() override {
    const Ended check = run(NETLAB " check");
    if (check.code == 77) GTEST_SKIP() << check.output;
    ASSERT_EQ(check.code, 0) << check.output;
  }
};

std::vector<int64_t> numbers_in(const std::string& text, const std::string& pattern) {
  std::vector<int64_t> numbers;
  const std::regex regex(pattern);
  for (std::sregex_iterator match(text.begin(), text.end(), regex), end; match != end; ++match)
    for (size_t group = 1; group < match->size(); ++group)
      numbers.push_back(std::stoll((*match)[group]));
  return numbers;
}

TEST_F(Netlab, ExchangesSendWhatTheLinksCarry) {
  double bf16_floor = 0;
  for (const std::string wire : {"", " fp8"}) {
    const Ended ended = run(
        NETLAB
        " --nodes 2 --ranks-per-node 2 --rate 100mbit --bytes --timeout 60 -- " EXCHANGE_PROGRAM +
        wire);
    ASSERT_EQ(ended.code, 0) << ended.output;
    const auto said = numbers_in(ended.output, "sent (\\d+) to other nodes, floor (\\d+)");
    const auto carried =
        numbers_in(ended.output, "node \\d sent \\d+ bytes in \\d+ packets, payload (\\d+)");
    ASSERT_EQ(said.size(), 2u) << ended.output;
    ASSERT_EQ(carried.size(), 2u) << ended.output;
    const double sent = double(said[0]), floor = double(said[1]);
    EXPECT_GT(floor, 2e6);
    EXPECT_GT(sent, floor);
    EXPECT_LT(sent, 1.03 * floor);
    const double payload = double(carried[0] + carried[1]);
    EXPECT_GT(payload, sent) << "MPI's own headers come on top";
    EXPECT_LT(payload, 1.04 * sent);
    std::printf("floor %.0f, sent %.4f of it, payload of the links %.4f of that\n", floor,
                sent / floor, payload / sent);
    // Of four crossings of a row two have a byte an element and a scale for 128 of them.
    if (wire.empty())
      bf16_floor = floor;
    else
      EXPECT_DOUBLE_EQ(floor, bf16_floor * (2 + 1 + 4.0 / 128) / 4);
  }
}

TEST_F(Netlab, ALayoutOverNodesTrainsAsOneRank) {
  const Ended ended =
      run(NETLAB " --nodes 2 --ranks-per-node 2 --rate 1gbit --timeout 100 -- " STRAIT_BINARY
                 " verify " RECIPE
                 " --set model.vocab_size=256 --set model.num_hidden_layers=2"
                 " --set parallel.expert=4 --set train.precision=fp32 --set train.global_batch=4"
                 " --set train.micro_batch=1 --set train.sequence_length=32 --steps 2"
                 " --free-steps 0");
  EXPECT_EQ(ended.code, 0) << ended.output;
  EXPECT_NE(ended.output.find("all gates held"), std::string::npos) << ended.output;
}

// Two micro-batches: F0, (F1 & B0), B1. Half of the exchanges stand in the pair, at any speed.
TEST_F(Netlab, TheOverlapBenchMeasuresATrainedStep) {
  const Ended ended = run(OVERLAP " --strait " STRAIT_BINARY
                                  " --nodes 2 --micro-batches 2 --steps 2 --runs 1 --ratios 1"
                                  " --length 128 --width 128");
  ASSERT_EQ(ended.code, 0) << ended.output;
  const auto row = numbers_in(ended.output, R"(\s(\d+)\.\d%\s+(\d+)\.\d%\s+(\d+)%\n)");
  ASSERT_EQ(row.size(), 3u) << "hidden in pairs, hidden in all, sent in pairs: " << ended.output;
  EXPECT_LE(row[0], 100) << ended.output;
  EXPECT_LE(row[1], 100) << ended.output;
  EXPECT_NEAR(double(row[2]), 50, 5) << ended.output;
}

TEST_F(Netlab, TheProgramsExitCodeIsHandedOn) {
  const Ended ended = run(NETLAB " --nodes 2 -- bash -c 'exit 3'");
  EXPECT_EQ(ended.code, 3) << ended.output;
}

TEST(NetlabLine, WhatIsWrongWithIt) {
  for (const auto& [arguments, problem] :
       {std::pair{"--rate 5 -- true", "--rate: cannot be '5'"},
        std::pair{"--nodes 0 -- true", "--nodes: expected 1 to 100, got '0'"},
        std::pair{"--nodes", "'--nodes' wants a value"},
        std::pair{"--rat 1gbit -- true", "unknown option '--rat'"},
        std::pair{"--nodes 2", "no program given"}}) {
    const Ended ended = run(std::string(NETLAB " ") + arguments);
    EXPECT_EQ(ended.code, 2) << arguments;
    EXPECT_NE(ended.output.find(problem), std::string::npos) << ended.output;
  }
}

}  // namespace
