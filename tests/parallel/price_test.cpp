#include "parallel/sim/price.h"

#include <gtest/gtest.h>

#include <set>

namespace strait {
namespace {

constexpr double kNear = 1e-12;  // relative

Cluster cluster() {
  Cluster c;
  c.nodes = 4;
  c.ranks_per_node = 2;
  c.bf16_peak = 1e15;
  c.fp8_peak = 2e15;
  c.fp32_peak = 1e14;
  c.memory_bandwidth = 4e12;
  c.cores = 100;
  c.exchange_cores = 20;
  c.launch_overhead = 1e-6;
  c.dense_gemm_bf16 = c.dense_gemm_fp8 = 0.8;
  c.grouped_gemm_bf16 = c.grouped_gemm_fp8 = 0.6;
  c.weight_gradient_bf16 = c.weight_gradient_fp8 = 0.5;
  c.gemm_memory = 1;
  c.attention_forward = 0.5;
  c.attention_backward = 0.4;
  c.elementwise = 0.5;
  c.card_bandwidth = 50e9;
  c.card_latency = 5e-6;
  c.fabric_bandwidth = 200e9;
  c.fabric_latency = 3e-6;
  c.far_exchange = 0.9;
  c.near_exchange = 0.8;
  c.commit_latency = 1e-4;
  return c;
}

TEST(Price, OpsAreRooflinesOfTheirClass) {
  const Cluster c = cluster();
  const auto op = [](OpClass op_class, GemmSize gemm, Precision precision) {
    return TaskOp{.cost = {.op_class = op_class, .gemm = gemm}, .precision = precision};
  };
  const GemmSize dense{.rows = 4096, .in = 512, .out = 1024};
  const double flops = 2.0 * 4096 * 512 * 1024, ins = 4096.0 * 512 + 512 * 1024,
               outs = 4096.0 * 1024;
  EXPECT_NEAR(op_seconds(c, op(OpClass::linear, dense, Precision::bf16)),
              1e-6 + flops / 0.8e15 + (2 * ins + 2 * outs) / 4e12, 1e-18);
  EXPECT_NEAR(op_seconds(c, op(OpClass::linear, dense, Precision::fp8)),
              1e-6 + flops / 1.6e15 + (ins + 2 * outs) / 4e12, 1e-18);
  // Four experts with 1,024 rows each.
  const GemmSize grouped{.groups = 4, .rows = 4096, .in = 512, .out = 1024};
  const double weights = 4 * 512.0 * 1024;
  EXPECT_NEAR(op_seconds(c, op(OpClass::expert, grouped, Precision::bf16)),
              1e-6 + flops / 0.6e15 + 2 * (4096.0 * 512 + weights + outs) / 4e12, 1e-18);
  GemmSize gradient = grouped;
  gradient.weight_gradient = true;
  EXPECT_NEAR(op_seconds(c, op(OpClass::expert, gradient, Precision::bf16)),
              1e-6 + flops / 0.5e15 + (2 * (4096.0 * 512 + outs) + 8 * weights) / 4e12, 1e-18);
  EXPECT_EQ(op_seconds(c, op(OpClass::expert, {.groups = 4, .rows = 0, .in = 5, .out = 5},
                             Precision::bf16)),
            0);

  TaskOp attention{.cost = {.flops = 3e9, .op_class = OpClass::attention}};
  EXPECT_NEAR(op_seconds(c, attention), 1e-6 + 3e9 / 0.5e15, 1e-18);
  attention.cost.again_flops = 1e9;  // backward: its kernels make the scores again
  EXPECT_NEAR(op_seconds(c, attention), 1e-6 + 4e9 / 0.4e15, 1e-18);
  EXPECT_NEAR(op_seconds(c, {.cost = {.flops = 1e9, .bytes = 8e6}}), 1e-6 + 8e6 / 2e12, 1e-18);
}

// 16 experts on 4 nodes of 2 ranks, every token chooses 3: each way of choosing, from each source,
// sent row by row.
TEST(Price, ExchangesSendWhatTheirRowsNeed) {
  constexpr int kRanks = 8, kInside = 2, kExperts = 16;
  double far_tiers = 0, near_tiers = 0, far_flat = 0, near_flat = 0, far_pairs = 0, near_pairs = 0;
  double ranks = 0, nodes = 0;
  int ways = 0;
  for (int a = 0; a < kExperts; ++a)
    for (int b = a + 1; b < kExperts; ++b)
      for (int c = b + 1; c < kExperts; ++c)
        for (int source = 0; source < kRanks; ++source) {
          ++ways;
          std::set<int> to_ranks, to_nodes;
          for (const int expert : {a, b, c}) {
            const int rank = expert / (kExperts / kRanks), node = rank / kInside;
            to_ranks.insert(rank);
            to_nodes.insert(node);
            far_pairs += node != source / kInside;
            near_pairs += rank % kInside != source % kInside;
          }
          ranks += double(to_ranks.size());
          nodes += double(to_nodes.size());
          for (const int node : to_nodes) far_tiers += node != source / kInside;
          for (const int rank : to_ranks) {
            near_tiers += rank % kInside != source % kInside;
            const bool is_far = rank / kInside != source / kInside;
            far_flat += is_far;
            near_flat += !is_far && rank != source;
          }
        }
  ModelWork work;
  work.tokens = 100;
  work.top_k = 3;
  work.expert_ranks = kRanks;
  work.expert_nodes = kRanks / kInside;
  work.ranks_of_token = ranks / ways;
  work.nodes_of_token = nodes / ways;
  work.exchanges[{Kind::dispatch, Pass::forward}] = {.row = 1000, .pair = 8};
  work.exchanges[{Kind::combine, Pass::forward}] = {.row = 2000};
  work.two_tier = true;
  const ExchangeLoad tiers = exchange_load(work, Kind::dispatch, Pass::forward);
  EXPECT_NEAR(tiers.far_bytes, 100 * (1000 * far_tiers + 8 * far_pairs) / ways, 1e-6);
  EXPECT_NEAR(tiers.near_bytes, 100 * (1000 * near_tiers + 8 * near_pairs) / ways, 1e-6);
  work.two_tier = false;
  const ExchangeLoad flat = exchange_load(work, Kind::combine, Pass::forward);
  EXPECT_NEAR(flat.far_bytes, 100 * 2000 * far_flat / ways, 1e-6);
  EXPECT_NEAR(flat.near_bytes, 100 * 2000 * near_flat / ways, 1e-6);
}

// One dense layer, two MoE layers; each phase's time is a power of two microseconds, so sums say
// what is in them.
class Phases {
 public:
  Phases() {
    work.num_hidden_layers = 3;
    work.like = {0, 1, 1};
    work.hidden_size = 8;
    work.tokens = 16;
    work.message_row_bytes = 16;
    work.stages = {{0, 2, true, false}, {2, 3, false, true}};
    work.exchanges[{Kind::dispatch, Pass::forward}] = {.row = 4096};
    for (const Pass pass : {Pass::forward, Pass::input_gradient}) {
      for (const int layer : {0, 1}) {
        put(Kind::attention, layer, pass);
        put(Kind::combine, layer, pass);
      }
      put(Kind::mlp, 0, pass);
      put(Kind::experts, 1, pass);
      put(Kind::head, 1, pass);
    }
  }
  double of(Kind kind, int layer, Pass pass) const { return us_.at({kind, layer, pass}); }
  // Microseconds of a task's compute.
  double price(Kind kind, int layer, Pass pass, int part = 0, int num_parts = 1) const {
    Cluster c = cluster();
    c.launch_overhead = 0;
    Program program;
    program.tasks = {{.kind = kind,
                      .pass = pass,
                      .microbatch = 0,
                      .layer = layer,
                      .part = part,
                      .num_parts = num_parts}};
    const TaskCost cost = price_programs(c, work, std::vector<Program>{program})[0][0];
    EXPECT_EQ(cost.share[size_t(Link::cores)], 1);
    return cost.seconds * 1e6;
  }
  ModelWork work;

 private:
  void put(Kind kind, int layer, Pass pass) {
    const double us = us_[{kind, layer, pass}] = double(1 << us_.size());
    work.phases[{kind, layer, pass}].ops = {{.cost = {.bytes = us * 1e-6 * 2e12}}};
  }
  std::map<PhaseKey, double> us_;
};

TEST(Price, TheEndOfALayerBelongsToWhatFollowsOnItsStage) {
  const Phases p;
  constexpr Pass F = Pass::forward, B = Pass::input_gradient;
  for (const Pass pass : {F, B}) {
    // First stage: layers 0 (dense) and 1 (MoE); the second: layer 2 (MoE) and the head.
    EXPECT_NEAR(p.price(Kind::attention, 0, pass), p.of(Kind::attention, 0, pass), kNear * 1e6);
    EXPECT_NEAR(p.price(Kind::mlp, 0, pass), p.of(Kind::mlp, 0, pass), kNear * 1e6);
    EXPECT_NEAR(p.price(Kind::attention, 1, pass),
                p.of(Kind::attention, 1, pass) + p.of(Kind::combine, 0, pass), kNear * 1e6);
    EXPECT_NEAR(p.price(Kind::experts, 1, pass),
                p.of(Kind::experts, 1, pass) + p.of(Kind::combine, 1, pass), kNear * 1e6);
    EXPECT_NEAR(p.price(Kind::attention, 2, pass), p.of(Kind::attention, 1, pass), kNear * 1e6);
    EXPECT_NEAR(p.price(Kind::experts, 2, pass), p.of(Kind::experts, 1, pass), kNear * 1e6);
    EXPECT_NEAR(p.price(Kind::head, 2, pass),
                p.of(Kind::head, 1, pass) + p.of(Kind::combine, 1, pass), kNear * 1e6);
  }
  // In parts: the sum after the last one, the sum's gradient before the first.
  const double part = p.of(Kind::experts, 1, F) / 2;
  EXPECT_NEAR(p.price(Kind::experts, 1, F, 0, 2), part, kNear * 1e6);
  EXPECT_NEAR(p.price(Kind::experts, 1, F, 1, 2), part + p.of(Kind::combine, 1, F), kNear * 1e6);
  EXPECT_NEAR(p.price(Kind::experts, 1, B, 0, 2),
              p.of(Kind::experts, 1, B) / 2 + p.of(Kind::combine, 1, B), kNear * 1e6);
}

class Transfers : public ::testing::Test {
 protected:
  TaskCost price(Task task) {
    Program program;
    program.tasks = {task};
    return price_programs(cluster_, phases_.work, std::vector<Program>{program})[0][0];
  }
  double share(const TaskCost& cost, Link link) { return cost.share[size_t(link)]; }
  Cluster cluster_ = cluster();
  Phases phases_;
};

TEST_F(Transfers, ExchangesTakeTheLongerTierAndSomeCores) {
  phases_.work.expert_ranks = 8;
  phases_.work.expert_nodes = 4;
  phases_.work.ranks_of_token = 4;
  phases_.work.nodes_of_token = 3;
  phases_.work.two_tier = true;
  phases_.work.exchange_chunks = 4;
  Task task{.kind = Kind::dispatch, .lane = Lane::far, .microbatch = 0, .layer = 1};
  const TaskCost cost = price(task);
  const double far = 16 * 4096 * 3 * 0.75, near = 16 * 4096 * 4 * 0.5;
  EXPECT_NEAR(cost.bytes_far, far, 1e-9);
  EXPECT_NEAR(cost.bytes_near, near, 1e-9);
  EXPECT_NEAR(cost.seconds, far / (50e9 * 0.9), 1e-15);
  EXPECT_NEAR(cost.latency_seconds, 8e-6 + near / 4 / near_exchange_rate(cluster_), 1e-15);
  EXPECT_NEAR(share(cost, Link::card_up), 0.9, 1e-12);
  EXPECT_NEAR(share(cost, Link::card_down), 0.9, 1e-12);
  EXPECT_NEAR(share(cost, Link::fabric), near / cost.seconds / 200e9, 1e-12);
  EXPECT_NEAR(share(cost, Link::cores), 0.2, 1e-12);
  task.num_parts = 4;
  EXPECT_NEAR(price(task).bytes_far, far / 4, 1e-9);
  EXPECT_NEAR(price(task).seconds, cost.seconds / 4, 1e-15);
}

TEST_F(Transfers, MessagesUseTheirDirectionOfTheCard) {
  const Message message{.microbatch = 0, .layer = 2, .rows = 1000};
  const TaskCost send = price({.kind = Kind::send, .lane = Lane::pipe, .send = message});
  EXPECT_NEAR(send.seconds, 16000 / 50e9, 1e-18);
  EXPECT_EQ(share(send, Link::card_up), 1);
  EXPECT_EQ(share(send, Link::card_down), 0);
  EXPECT_EQ(send.bytes_far, 16000);
  const TaskCost receive = price({.kind = Kind::receive, .lane = Lane::pipe, .receive = message});
  EXPECT_EQ(receive.seconds, send.seconds);
  EXPECT_EQ(share(receive, Link::card_up), 0);
  EXPECT_EQ(share(receive, Link::card_down), 1);
  EXPECT_EQ(receive.bytes_far, 0);
  Message half = message;
  half.rows = 500;
  const TaskCost swap =
      price({.kind = Kind::swap, .lane = Lane::pipe, .send = message, .receive = half});
  EXPECT_EQ(swap.seconds, send.seconds);
  EXPECT_EQ(share(swap, Link::card_down), 0.5);
  phases_.work.stages_share_node = true;
  const TaskCost near = price({.kind = Kind::send, .lane = Lane::pipe, .send = message});
  EXPECT_NEAR(near.seconds, 16000 / 200e9, 1e-18);
  EXPECT_EQ(near.bytes_near, 16000);
  EXPECT_EQ(share(near, Link::card_up), 0);
}

TEST_F(Transfers, CollectivesSendWhatParallelCommSays) {
  // 8 replicas on 4 nodes of 2: 4N (L - 1) / L inside, 4N (1 / L - 1 / R) between.
  phases_.work.buckets = {
      {{.numel = 8000, .dtype = DType::bf16, .replicas = 8, .replicas_per_node = 2},
       {.numel = 8000, .dtype = DType::bf16, .replicas = 1}}};
  const TaskCost reduce = price({.kind = Kind::reduce_gradients, .lane = Lane::shard, .bucket = 0});
  EXPECT_NEAR(reduce.bytes_near, 32000 * 0.5, 1e-9);
  EXPECT_NEAR(reduce.bytes_far, 32000 * (0.5 - 0.125), 1e-9);
  EXPECT_NEAR(reduce.seconds, 12000 / 50e9, 1e-15);
  const TaskCost gather = price({.kind = Kind::gather_weights, .lane = Lane::shard, .bucket = 0});
  EXPECT_NEAR(gather.bytes_far, 16000 * (0.5 - 0.125), 1e-9);
  const TaskCost alone = price({.kind = Kind::reduce_gradients, .lane = Lane::shard, .bucket = 1});
  EXPECT_EQ(alone.seconds, 0);
  EXPECT_EQ(alone.latency_seconds, 0);
  EXPECT_EQ(price({.kind = Kind::commit, .lane = Lane::shard}).latency_seconds, 1e-4);
}

TEST_F(Transfers, TheUpdateMovesItsShard) {
  cluster_.launch_overhead = 0;
  phases_.work.moments_bytes = 2;
  phases_.work.buckets = {
      {{.numel = 8000, .dtype = DType::bf16, .packed_bytes = 32000, .replicas = 8}}};
  // Of a shard of 1,000: gradient 4, master 4 + 4, moments 2 x (2 + 2), weight 2; then all 8,000
  // gradients are zeroed.
  EXPECT_NEAR(price({.kind = Kind::update, .bucket = 0}).seconds, (1000 * 22 + 8000 * 4) / 2e12,
              1e-18);
  EXPECT_NEAR(price({.kind = Kind::gradient_norm}).seconds, 1000 * 4 / 2e12, 1e-18);
  EXPECT_NEAR(price({.kind = Kind::pack_weights, .bucket = 0}).seconds, (16000 + 32000) / 2e12,
              1e-18);
  phases_.work.buckets[0][0].packed_bytes = 0;
  EXPECT_EQ(price({.kind = Kind::pack_weights, .bucket = 0}).seconds, 0);
}

}  // namespace
}  // namespace strait
