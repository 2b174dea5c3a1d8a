// launch/commands/verify_run.h: compares the layout it runs in with one rank, step by step from the
// same state.
//
// The reference is an engine of one rank, on rank 0, that computes the whole global batch. Each
// step all shards are loaded with its state, both run the same windows, and loss, summed gradients
// and update are compared; so errors do not add up and a route that flips cannot change the steps
// after it (it is replayed: see verify_routes.h). Then the layout runs twice on its own: the bits
// must be equal.
#pragma once

#include <functional>

#include "launch/commands/verify_report.h"
#include "launch/engine/engine.h"
#include "recipes/recipe.h"

namespace strait {

// For tests that a gate catches what it is there for: changes the layout's engine on some rank.
enum class VerifyMoment : uint8_t {
  loaded,    // with the reference's state, before forward
  summed,    // gradients are summed, before the update
  repeated,  // after the steps of the second of two equal runs
};
using VerifyTamper =
    std::function<void(VerifyMoment moment, int64_t step, Engine& layout, Rank rank)>;

struct VerifyPlan {
  int64_t steps = 5;        // gated; the two equal runs have as many
  int64_t free_steps = 20;  // of a run from the start in which nothing is loaded
  VerifyTamper tamper = {};
};

// Collective. The report is whole on rank 0; on the others only passed() of it is meant.
// Errors: RecipeError (the layout does not fit), DataError (the corpus), NumericsError (not
// finite). Cost: rank 0 holds two models, the second one whole with FP32 master, moments and
// gradients, and three FP32 copies.
VerifyReport verify(const Recipe& recipe, const VerifyPlan& plan, Comm& comm);

}  // namespace strait
