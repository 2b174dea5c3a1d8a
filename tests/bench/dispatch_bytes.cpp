// What dispatch and combine send between nodes, beside the least they could: real exchanges between
// ranks that are threads, routed by the model's own router on even scores.
//
//   dispatch_bytes [--tokens N]     of each rank; default 128
//
// 8 nodes of 4 ranks, 64 experts in 8 groups, a node each. "floor": each token's row, in the wire
// format, once to each remote node that holds one of its experts. Forward: dispatch and combine;
// backward: their inverses. Then what FP8 saves: rows to the experts and their gradients in FP8,
// and sums back in BF16 or FP8, too.
#include <fmt/format.h>

#include <cstdio>
#include <cstring>
#include <mutex>
#include <random>

#include "core/ops/router.h"
#include "parallel/comm/local.h"
#include "parallel/expert/expert_exchange.h"

namespace strait {
namespace {

constexpr int kNodes = 8, kRanksPerNode = 4, kExperts = 64, kChunks = 4;

struct Setting {
  int64_t tokens = 128, width = 2048, top_k = 8, topk_group = 4;
  DType dtype = DType::bf16;
  bool fp8 = false, fp8_sums = false;  // rows to the experts and their gradients; sums
};

struct Sent {
  int64_t forward = 0, backward = 0;  // to other nodes, by all ranks
  int64_t forward_floor = 0, backward_floor = 0;
  int64_t near = 0;  // inside nodes, both ways
};

void choose(Context& ctx, const Setting& s, int rank, Tensor& ids, Tensor& weights) {
  Tensor logits = ctx.empty({s.tokens, kExperts}, DType::f32, Purpose::workspace);
  std::mt19937 random(static_cast<unsigned>(rank));
  std::uniform_real_distribution<float> even(-2, 2);
  for (float& logit : logits.span<float>()) logit = even(random);
  RouteSettings route_settings{.top_k = s.top_k, .n_group = kNodes, .topk_group = s.topk_group};
  route_settings.method = RouteSettings::Method::noaux_tc;
  route(ctx, logits, ctx.zeros({kExperts}, DType::f32, Purpose::workspace), route_settings, ids,
        weights);
}

void exchange_once(const Setting& s, bool two_tier, Comm& comm, Sent& all, std::mutex& mutex) {
  const int ranks = comm.size();
  const ExpertLinks links =
      expert_links(Mesh(ranks, 1, ranks, comm.nodes()), comm.rank(), &comm, two_tier, kChunks);
  Context ctx(Device::cpu, 1);
  const auto zeros = [&](int64_t rows, DType dtype) {
    return ctx.zeros({rows, s.width}, dtype, Purpose::workspace);
  };
  const auto run = [&](OperationPtr operation) {
    comm.enqueue(links.lane, std::move(operation)).wait();
  };
  Tensor ids = ctx.empty({s.tokens, s.top_k}, DType::i32, Purpose::workspace);
  Tensor weights = ctx.empty({s.tokens, s.top_k}, DType::f32, Purpose::workspace);
  choose(ctx, s, comm.rank().value, ids, weights);
  ExpertExchange exchange({.ctx = &ctx,
                           .links = links,
                           .num_experts = kExperts,
                           .compute = s.dtype,
                           .combine_wire = s.dtype,
                           .fp8 = s.fp8,
                           .fp8_sums = s.fp8_sums},
                          std::make_shared<Value>(zeros(s.tokens, s.dtype)), ids, weights);
  run(exchange.dispatch());
  const ExpertBatch batch = exchange.arrived();
  const int64_t rows = batch.rows->num_rows();
  exchange.pack_sums(zeros(rows, s.dtype));
  run(exchange.combine());
  Tensor hidden = zeros(s.tokens, DType::f32);
  exchange.add_sums(ctx, hidden);
  const LaneBytes forward = comm.bytes_sent(links.lane);
  const int64_t forward_floor = *links.floor_bytes;
  exchange.pack_gradient(ctx, hidden);
  run(exchange.combine_inverse());
  exchange.take_d_sums();
  exchange.pack_expert_gradients(
      {.d_rows = zeros(rows, DType::f32),
       .d_pair_weights = ctx.zeros({batch.pair_weights.numel()}, DType::f32, Purpose::workspace)});
  run(exchange.dispatch_inverse());
  exchange.take_gradients();
  const LaneBytes both = comm.bytes_sent(links.lane);

  std::lock_guard lock(mutex);
  all.forward += forward.other_nodes;
  all.backward += both.other_nodes - forward.other_nodes;
  all.forward_floor += forward_floor;
  all.backward_floor += *links.floor_bytes - forward_floor;
  all.near += both.same_node;
}

Sent measure(const Setting& s, bool two_tier) {
  std::vector<std::string> hosts;
  for (int rank = 0; rank < kNodes * kRanksPerNode; ++rank)
    hosts.push_back(fmt::format("node {}", rank / kRanksPerNode));
  LocalWorld world(kNodes * kRanksPerNode, hosts);
  Sent all;
  std::mutex mutex;
  run_ranks(world, [&](Rank, Comm& comm) { exchange_once(s, two_tier, comm, all, mutex); });
  return all;
}

void print(const Setting& s) {
  const Sent flat = measure(s, false), two_tier = measure(s, true);
  const auto ratio = [](int64_t a, int64_t b) { return double(a) / double(b); };
  fmt::print("{:>5} {:>6} {:>6} {:>6}  {:>10.3f} {:>9.4f} {:>9.4f}  {:>9.4f} {:>9.4f}  {:>9.3f}\n",
             name_of(s.dtype), s.width, s.top_k, s.topk_group, double(two_tier.forward_floor) / 1e6,
             ratio(two_tier.forward, two_tier.forward_floor),
             ratio(two_tier.backward, two_tier.backward_floor),
             ratio(flat.forward, two_tier.forward_floor), ratio(two_tier.near, flat.near),
             ratio(flat.forward + flat.backward, two_tier.forward + two_tier.backward));
  std::fflush(stdout);
}

void print_wires(Setting s) {
  const Sent flat = measure(s, false), two_tier = measure(s, true);
  const auto both = [](const Sent& sent) { return double(sent.forward + sent.backward); };
  const auto row = [&](const char* name, const Sent& sent) {
    fmt::print("{:<26} {:>12.3f} {:>12.3f} {:>12.3f} {:>12.3f}\n", name, double(sent.forward) / 1e6,
               double(sent.forward + sent.backward) / 1e6, both(sent) / both(two_tier),
               both(sent) / both(flat));
    std::fflush(stdout);
  };
  fmt::print(
      "\nwidth {}, top-{} within {} groups: bytes to other nodes by wire, there / back\n"
      "{:<26} {:>12} {:>12} {:>12} {:>12}\n",
      s.width, s.top_k, s.topk_group, "", "forward MB", "step MB", "/ BF16", "/ flat BF16");
  row("flat BF16 / BF16", flat);
  row("two-tier BF16 / BF16", two_tier);
  s.fp8 = true;
  row("two-tier FP8 / BF16", measure(s, true));
  s.fp8_sums = true;
  row("two-tier FP8 / FP8", measure(s, true));
}

}  // namespace
}  // namespace strait

int main(int argc, char** argv) {
  using namespace strait;
  const bool has_tokens = argc == 3 && std::strcmp(argv[1], "--tokens") == 0;
  const int64_t tokens = has_tokens ? std::atoll(argv[2]) : 128;
  if (argc > 1 && (!has_tokens || tokens < 1)) {
    fmt::print(stderr, "usage: dispatch_bytes [--tokens N]\n");
    return 2;
  }
  fmt::print(
      "8 nodes of 4 ranks, {} tokens a rank, 64 experts in 8 groups; bytes to other nodes\n\n",
      tokens);
  fmt::print(
      "                     group    floor MB  two-tier / floor     flat /     near,     flat /\n");
  fmt::print(
      " wire  width  top-k  limit     forward   forward  backward     floor  2t/flat   two-tier\n");
  for (const int64_t top_k : {4, 8})
    for (const int64_t limit : {1, 2, 4})
      print({.tokens = tokens, .top_k = top_k, .topk_group = limit});
  fmt::print("\n");
  for (const int64_t width : {128, 256, 512, 1024, 4096, 7168})
    print({.tokens = tokens, .width = width});
  print({.tokens = tokens, .dtype = DType::f32});
  print_wires({.tokens = tokens, .width = 7168});
}
