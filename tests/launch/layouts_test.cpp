// tests/launch/layouts_test.cpp: the same step on 1, 2, 3 and 4 ranks, experts spread over 1, 2 and
// 4 of them.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>

#include "launch/engine/engine.h"
#include "parallel/comm/local.h"
#include "tests/launch/tiny_model.h"

namespace strait {
namespace {

constexpr int64_t kSequences = 12, kLength = 16;

EngineSettings settings_for(int world) {
  EngineSettings settings;
  settings.model = test::tiny_model();
  settings.sequence_length = kLength;
  settings.micro_batch = 1;
  settings.num_microbatches = kSequences / world;
  settings.balance.sequence_loss_alpha = 0.01;
  settings.balance.bias_update_speed = 0.01;
  return settings;
}

// What a layout makes of two steps, by Hugging Face name.
struct Outcome {
  StepTotals first, second;
  std::map<std::string, std::vector<float>> gradients, masters;
  std::vector<float> bias;
};

std::vector<int32_t> windows_of(const Engine& engine, Rank rank) {
  std::vector<int32_t> windows;
  const int64_t mine = engine.windows_per_step();
  for (int64_t sequence = rank.value * mine; sequence < (rank.value + 1) * mine; ++sequence)
    for (int64_t i = 0; i < engine.window_tokens(); ++i)
      windows.push_back(static_cast<int32_t>((sequence * 31 + i * i * 7 + i * sequence) % 64));
  return windows;
}

// ranks_per_node 0: one node.
Outcome run_layout(int world, int expert, double routed_headroom = 0, int ranks_per_node = 0,
                   int waves = 1) {
  Outcome outcome;
  std::mutex mutex;
  run_ranks(world, [&](Rank rank, Comm& comm) {
    EngineSettings settings = settings_for(world);
    settings.routed_headroom = routed_headroom;
    settings.waves = waves;
    if (ranks_per_node > 0) comm.group_nodes(ranks_per_node);
    const Mesh mesh(world, 1, expert, comm.nodes());
    Engine engine(settings, mesh, rank, &comm, Device::cpu);
    engine.initialise(7);
    const std::vector<int32_t> windows = windows_of(engine, rank);
    const auto collect = [&](std::map<std::string, std::vector<float>>& into, bool gradients) {
      std::lock_guard lock(mutex);
      for (const Bucket& bucket : engine.buckets()) {
        for (const ShardPiece& piece : pieces_of_shard(bucket)) {
          auto& values = into[piece.part->name];
          values.resize(static_cast<size_t>(piece.part->num_rows * piece.parameter->num_cols()),
                        NAN);
          const float* from = gradients ? bucket.gradients.data<float>() + bucket.shard_begin()
                                        : bucket.master.data<float>();
          std::copy_n(from + piece.shard_offset, piece.count, values.begin() + piece.offset);
        }
      }
    };
    engine.run_step(windows, 0);
    collect(outcome.gradients, true);
    const auto first = engine.run_step(windows, 1e-3);
    const auto second = engine.settle(1e-3);
    collect(outcome.masters, false);
    std::lock_guard lock(mutex);
    outcome.first = *first;
    outcome.second = *second;
    outcome.bias = engine.selection_bias();
  });
  return outcome;
}

double relative_error(const std::vector<float>& got, const std::vector<float>& wanted) {
  double difference = 0, norm = 1e-30;
  for (size_t i = 0; i < got.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - wanted[i], 2);
    norm += std::pow(static_cast<double>(wanted[i]), 2);
  }
  return std::sqrt(difference / norm);
}

class Layouts : public testing::TestWithParam<std::pair<int, int>> {};

TEST_P(Layouts, EqualOneRank) {
  const auto [world, expert] = GetParam();
  const Outcome one = run_layout(1, 1), many = run_layout(world, expert);
  EXPECT_NEAR(many.first.loss(), one.first.loss(), 1e-6);
  EXPECT_NEAR(many.first.mtp_loss(), one.first.mtp_loss(), 1e-6);
  EXPECT_NEAR(many.first.balance_loss, one.first.balance_loss, 1e-6);
  EXPECT_NEAR(many.first.gradient_norm, one.first.gradient_norm, 1e-5 * one.first.gradient_norm);
  EXPECT_EQ(many.first.targets, kSequences * kLength);
  EXPECT_EQ(many.first.expert_counts, one.first.expert_counts);
  EXPECT_EQ(many.bias, one.bias);
  ASSERT_EQ(many.gradients.size(), one.gradients.size());
  for (const auto& [name, gradient] : one.gradients)
    EXPECT_LE(relative_error(many.gradients.at(name), gradient), 1e-5) << name;
  for (const auto& [name, master] : one.masters)
    EXPECT_LE(relative_error(many.masters.at(name), master), 1e-4) << name;
}

TEST_P(Layouts, SameBitsTwice) {
  const auto [world, expert] = GetParam();
  const Outcome a = run_layout(world, expert), b = run_layout(world, expert);
  EXPECT_EQ(a.masters, b.masters);
  EXPECT_EQ(a.second.nll, b.second.nll);
}

// Phases without room keep nothing: their rows are dispatched and computed again, to the same bits.
TEST(RoutedRoom, WhatDoesNotFitIsDispatchedAgain) {
  for (const auto& [ranks_per_node, waves] :
       {std::pair(0, 1), std::pair(2, 1), std::pair(0, 2), std::pair(2, 2)}) {
    // Rank, layer, micro-batch, wave: MTP's module is a third MoE layer.
    const double phases = 4 * 3 * (kSequences / 4) * waves;
    const Outcome all_fit = run_layout(4, 4, 0, ranks_per_node, waves);
    EXPECT_EQ(all_fit.first.routed_again, 0);
    EXPECT_GT(all_fit.first.routed_fullest, 1);
    const Outcome some_fit = run_layout(4, 4, 0.9, ranks_per_node, waves);
    EXPECT_GT(some_fit.first.routed_again, 0);
    EXPECT_LT(some_fit.first.routed_again, phases);
    EXPECT_LE(some_fit.first.routed_fullest, 0.9);
    const Outcome none_fit = run_layout(4, 4, 0.01, ranks_per_node, waves);
    EXPECT_EQ(none_fit.first.routed_again, phases);
    EXPECT_EQ(none_fit.first.routed_fullest, 0);
    for (const Outcome* outcome : {&some_fit, &none_fit}) {
      EXPECT_EQ(outcome->gradients, all_fit.gradients);
      EXPECT_EQ(outcome->masters, all_fit.masters);
    }
  }
}

TEST(RoutedRoom, OnOneRank) {
  const Outcome all_fit = run_layout(1, 1), none_fit = run_layout(1, 1, 0.5);
  EXPECT_DOUBLE_EQ(all_fit.first.routed_fullest, 1);
  EXPECT_EQ(none_fit.first.routed_again, 2 * kSequences);  // one of three layers fits
  EXPECT_EQ(none_fit.masters, all_fit.masters);
}

// A layer's rows cross between nodes once to each node: less than flat, and never below the floor.
TEST(ExchangeBytes, AreCountedBesideTheirFloor) {
  const StepTotals totals = run_layout(4, 4, 0, 2).first;
  EXPECT_GT(totals.exchange_floor_bytes, 0);
  EXPECT_GT(totals.exchange_far_bytes, totals.exchange_floor_bytes);
  EXPECT_LT(totals.exchange_far_bytes, totals.other_node_bytes);
  EXPECT_EQ(run_layout(4, 4).first.exchange_far_bytes, 0);
}

TEST_P(Layouts, EvaluationsAndStepsLeaveNoMemoryBehind) {
  const auto [world, expert] = GetParam();
  run_ranks(world, [&, world = world, expert = expert](Rank rank, Comm& comm) {
    Engine engine(settings_for(world), Mesh(world, 1, expert), rank, &comm, Device::cpu);
    engine.initialise(7);
    const std::vector<int32_t> windows = windows_of(engine, rank);
    const std::vector<int32_t> one(windows.begin(), windows.begin() + engine.window_tokens());
    const auto live = engine.ctx().memory().live().bytes;  // by purpose
    engine.evaluate(one);
    EXPECT_EQ(engine.ctx().memory().live().bytes, live);
    engine.run_step(windows, 0);
    engine.settle(1e-3);
    EXPECT_EQ(engine.ctx().memory().live().bytes, live);
    engine.evaluate(one);
    EXPECT_EQ(engine.ctx().memory().live().bytes, live);
  });
}

INSTANTIATE_TEST_SUITE_P(Local, Layouts,
                         testing::Values(std::pair(2, 1), std::pair(2, 2), std::pair(3, 1),
                                         std::pair(4, 1), std::pair(4, 2), std::pair(4, 4)),
                         [](const auto& info) {
                           return "Ranks" + std::to_string(info.param.first) + "Expert" +
                                  std::to_string(info.param.second);
                         });

}  // namespace
}  // namespace strait
