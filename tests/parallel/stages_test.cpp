// Operations that run under each other: what starts when.
#include "parallel/comm/stages.h"

#include <gtest/gtest.h>

#include <string>

#include "core/errors.h"
#include "parallel/comm/self.h"

namespace strait {
namespace {

// Finishes at the given poll.
class After : public Operation {
 public:
  explicit After(int polls) : polls_(polls) {}
  bool poll() override { return --polls_ <= 0; }

 private:
  int polls_;
};

struct Log {
  std::vector<std::string> started;
  Step step(std::string name, int polls) {
    return [this, name, polls]() -> OperationPtr {
      started.push_back(name);
      return polls == 0 ? nullptr : std::make_unique<After>(polls);
    };
  }
};

int polls_of(Operation& operation) {
  int polls = 1;
  while (!operation.poll()) ++polls;
  return polls;
}

TEST(Overlapped, TheSecondStageFollowsTheFirstStepByStep) {
  Log log;
  // Each step takes three polls: one under the other, four steps in a row.
  const OperationPtr all =
      overlapped({.steps = {log.step("a0", 3), log.step("a1", 3), log.step("a2", 3)}},
                 {.steps = {log.step("b0", 3), log.step("b1", 3), log.step("b2", 3)}});
  polls_of(*all);
  EXPECT_EQ(log.started, (std::vector<std::string>{"a0", "a1", "b0", "a2", "b1", "b2"}));
}

TEST(Overlapped, StepsAheadStartTogetherAndFinishInOrder) {
  Log log;
  // a1 is over before a0: b0 may not start before a0 is.
  const OperationPtr all =
      overlapped({.steps = {log.step("a0", 5), log.step("a1", 1), log.step("a2", 1)}, .ahead = 2},
                 {.steps = {log.step("b0", 1), log.step("b1", 0), log.step("b2", 1)}});
  EXPECT_FALSE(all->poll());
  EXPECT_EQ(log.started, (std::vector<std::string>{"a0", "a1"}));
  polls_of(*all);
  EXPECT_EQ(log.started, (std::vector<std::string>{"a0", "a1", "a2", "b0", "b1", "b2"}));
}

TEST(Overlapped, StepsThatWaitForNothing) {
  Log log;
  const OperationPtr all = overlapped({.steps = {log.step("a0", 0), log.step("a1", 0)}},
                                      {.steps = {log.step("b0", 0), log.step("b1", 0)}});
  EXPECT_TRUE(all->poll());
  EXPECT_EQ(log.started.size(), 4u);
}

TEST(InParts, OnePartPerPoll) {
  const auto comm = self_comm();
  const Channel channel = comm->channel(LinkLane::near, comm->world());
  std::vector<std::pair<int64_t, int64_t>> parts;
  const auto note = [&parts](int64_t begin, int64_t end) { parts.emplace_back(begin, end); };
  const auto work = [&] { return in_parts(channel, 7, 3, note); };
  channel.enqueue(sequence({work})).wait();
  EXPECT_EQ(parts, (std::vector<std::pair<int64_t, int64_t>>{{0, 3}, {3, 6}, {6, 7}}));
}

}  // namespace
}  // namespace strait
