// The published machine from FLOPs, bytes and the cluster file alone: nothing is fitted to the
// trace, and these are the bounds within which the predictions are known to miss it.
// tests/bench/published_machine prints every miss.
#include "tests/bench/published_phases.h"

#include <gtest/gtest.h>

#include "parallel/sim/task_table.h"

namespace strait {
namespace {

TEST(PublishedPhases, MissTheTraceByLittleOnCompute) {
  const Cluster cluster = load_cluster("h800-2048");
  const PublishedPhases phases(cluster);
  const TaskTable table = read_task_table(STRAIT_RECIPES "/clusters/h800-trace.csv");
  const double share = compute_share_under_exchange(cluster);
  double predicted_sum = 0, measured_sum = 0;
  for (const Kind kind : {Kind::attention, Kind::experts}) {
    for (const Pass pass : {Pass::forward, Pass::input_gradient, Pass::weight_gradient}) {
      const double predicted = phases.cost(kind, pass).seconds / share;
      const double measured = cost_of(table, {.kind = kind, .pass = pass}, {})->seconds;
      EXPECT_NEAR(predicted, measured, 0.25 * measured) << name_of(kind) << int(pass);
      predicted_sum += predicted;
      measured_sum += measured;
    }
  }
  EXPECT_NEAR(predicted_sum, measured_sum, 0.15 * measured_sum);
  EXPECT_LT(predicted_sum, measured_sum);  // each kernel at the best that is published of it alone
}

// A rank's bytes against what DeepEP's authors count: 4 nodes for a token, its own among them.
TEST(PublishedPhases, ExchangesSendToFourNodes) {
  const Cluster cluster = load_cluster("h800-2048");
  const PublishedPhases phases(cluster);
  const double fp8_row = 7168 * (1 + 4.0 / 128);
  const double dispatched = phases.cost(Kind::dispatch, Pass::forward).bytes_far;
  EXPECT_NEAR(dispatched, 4096 * 4 * fp8_row * 7 / 8, 0.02 * dispatched);
  const double combined = phases.cost(Kind::combine, Pass::forward).bytes_far;
  EXPECT_NEAR(combined, 4096 * 4 * 2 * 7168 * 7.0 / 8, 0.02 * combined);
}

}  // namespace
}  // namespace strait
