// What the executor says of a program that goes wrong or has to wait. That it runs good ones is
// shown by everything that trains.
#include "parallel/program/execute.h"

#include <gtest/gtest.h>

#include <atomic>

#include "core/errors.h"
#include "parallel/comm/local.h"

namespace strait {
namespace {

// Polled until somebody says that it is over.
class Waiting : public Operation {
 public:
  explicit Waiting(std::function<bool()> over) : over_(std::move(over)) {}
  bool poll() override { return over_(); }

 private:
  std::function<bool()> over_;
};

const Task kExperts{.kind = Kind::experts,
                    .pass = Pass::input_gradient,
                    .lane = Lane::compute,
                    .microbatch = 2,
                    .layer = 3};
const Task kCombine{.kind = Kind::combine,
                    .pass = Pass::input_gradient,
                    .lane = Lane::far,
                    .microbatch = 2,
                    .layer = 3};

// A transfer, the compute task that waits for it, and a transfer that nothing waits for.
Program program() {
  Task commit{.kind = Kind::commit, .lane = Lane::shard};
  Task experts = kExperts;
  experts.after = {0};
  return {.tasks = {kCombine, experts, commit}};
}

// Of a program with these functions, on one rank that has a communication thread.
template <class Failure>
std::string failure_of(const Bindings& bindings) {
  LocalWorld world(1);
  const std::unique_ptr<Comm> comm = world.comm({0});
  try {
    execute(program(), *comm, bindings);
  } catch (const Failure& failure) {
    return failure.what();
  }
  return "no failure of this type";
}

TEST(Execute, AnErrorNamesTheTaskThatThrewIt) {
  const auto nothing = [](const Task&) -> OperationPtr { return nullptr; };
  const auto computes = [](const Task&) {};
  EXPECT_EQ(
      failure_of<DataError>({.compute = [](const Task&) { throw DataError("the disk is full"); },
                             .transfer = nothing}),
      "the disk is full (experts.B m2 l3)");
  EXPECT_EQ(failure_of<InternalError>(
                {.compute = computes,
                 .transfer = [](const Task&) -> OperationPtr { throw InternalError("rows"); }}),
            "rows (combine.B m2 l3)");
  EXPECT_EQ(failure_of<CommError>({.compute = computes,
                                   .transfer = [](const Task& task) -> OperationPtr {
                                     if (task.kind == Kind::combine) return nullptr;
                                     return std::make_unique<Waiting>([]() -> bool {
                                       throw CommError("expected 512 bytes, got 480");
                                     });
                                   }}),
            "expected 512 bytes, got 480 (commit)");
}

// All ranks throw the same, which names its step.
TEST(Execute, WhatIsNoNumberStaysAsItIs) {
  EXPECT_EQ(failure_of<NumericsError>(
                {.compute = [](const Task&) { throw NumericsError("step 7: not finite"); },
                 .transfer = [](const Task&) -> OperationPtr { return nullptr; }}),
            "step 7: not finite");
}

TEST(Execute, SaysWhatTheComputeThreadWaitsFor) {
  std::atomic<int> waits{0};
  std::vector<std::string> said;
  LocalWorld world(1);
  const std::unique_ptr<Comm> comm = world.comm({0});
  execute(program(), *comm,
          {.compute = [](const Task&) {},
           .transfer = [&](const Task& task) -> OperationPtr {
             const int until = task.kind == Kind::combine ? 1 : 2;
             return std::make_unique<Waiting>([&waits, until] { return waits >= until; });
           },
           .waits =
               [&](const Task& task, const Task& transfer) {
                 said.push_back(to_string(task) + " for " + to_string(transfer));
                 ++waits;
               }});
  EXPECT_EQ(said,
            (std::vector<std::string>{"experts.B m2 l3 for combine.B m2 l3", "commit for commit"}));
}

}  // namespace
}  // namespace strait
