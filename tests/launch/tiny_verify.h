// tests/launch/tiny_verify.h: `strait verify` of a tiny model on ranks that are threads.
#pragma once

#include <gtest/gtest.h>

#include <mutex>
#include <stdexcept>
#include <string>

#include "launch/commands/verify_run.h"
#include "parallel/comm/local.h"
#include "tests/launch/tiny_model.h"

namespace strait::test {

inline Recipe tiny_recipe(int expert, const std::string& precision,
                          const std::string& wire = "auto") {
  Recipe recipe;
  recipe.model = tiny_model();
  recipe.model.vocab_size = 160;
  recipe.model.n_group = 4;
  recipe.model.topk_group = 2;
  recipe.balance.sequence_loss_alpha = 0.01;
  recipe.schedule.kind = "constant";
  recipe.schedule.peak_lr = 1e-3;
  recipe.train.steps = 100;
  recipe.train.global_batch = 12;
  recipe.train.sequence_length = 16;
  recipe.train.precision = precision;
  recipe.train.threads = 1;
  recipe.parallel.expert = expert;
  recipe.parallel.combine_wire = wire;
  recipe.run.name = "tiny";
  return recipe;
}

// What rank 0 reports, after all ranks have agreed on whether it is well. ranks_per_node 0: on one.
inline VerifyReport verify_on(int ranks, const Recipe& recipe, const VerifyPlan& plan,
                              int ranks_per_node = 0) {
  VerifyReport report;
  int passed = 0;
  std::mutex mutex;
  run_ranks(ranks, [&](Rank rank, Comm& comm) {
    if (ranks_per_node > 0) comm.group_nodes(ranks_per_node);
    VerifyReport mine = verify(recipe, plan, comm);
    std::lock_guard lock(mutex);
    passed += mine.passed();
    if (rank.value == 0) report = std::move(mine);
  });
  EXPECT_EQ(passed, report.passed() ? ranks : 0);
  return report;
}

inline const Gate& gate_of(const VerifyReport& report, const std::string& name) {
  for (const Gate& gate : report.gates)
    if (gate.name == name) return gate;
  throw std::runtime_error("no gate " + name);
}

}  // namespace strait::test
