// tests/parallel/layout_test.cpp: state moved between layouts of 4, 2, 3 and 1 ranks, and maps that
// prove nothing.
#include "parallel/shard/layout.h"

#include <gtest/gtest.h>

#include <mutex>
#include <optional>
#include <set>

#include "core/errors.h"
#include "parallel/comm/local.h"
#include "parallel/comm/self.h"
#include "parallel/mesh/mesh.h"

namespace strait {
namespace {

constexpr StateKind kAllKinds[] = {StateKind::master, StateKind::first_moment,
                                   StateKind::second_moment, StateKind::bias};

ModelSettings small_model() {
  ModelSettings m;
  m.vocab_size = 301;  // two units of 128 rows and a bit
  m.hidden_size = 24;
  m.num_hidden_layers = 3;
  m.first_k_dense_replace = 1;
  m.num_attention_heads = 2;
  m.q_lora_rank = 12;
  m.kv_lora_rank = 16;
  m.qk_nope_head_dim = 12;
  m.qk_rope_head_dim = 4;
  m.v_head_dim = 12;
  m.intermediate_size = 150;
  m.moe_intermediate_size = 20;
  m.n_routed_experts = 12;
  m.n_shared_experts = 1;
  m.num_experts_per_tok = 3;
  m.num_nextn_predict_layers = 1;
  return m;
}

testing::AssertionResult has(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "no '" << part << "' in '" << text << "'";
}

// What one rank of a world of `size` ranks holds, on the first ranks of a larger one.
struct Holder {
  Holder(int size, int expert, Rank rank) : here(rank.value < size), ctx(Device::cpu, 1) {
    if (!here) return;
    const Mesh mesh(size, 1, expert);
    const int64_t local = small_model().n_routed_experts / expert;
    model = build_model(small_model(), {mesh.position_of(rank).expert * local, local}, DType::bf16);
    const auto place = [](const Group& group) { return ReplicaPlace{group.size(), group.self()}; };
    buckets = build_buckets(ctx, model,
                            {.data = place(mesh.data(rank)),
                             .expert = place(mesh.replicas(rank)),
                             .moments = DType::bf16,
                             .training = true});
    bias.assign(static_cast<size_t>(model.num_moe_layers * model.settings.n_routed_experts), -1.0f);
  }
  std::vector<StatePiece> shards() { return pieces_of(buckets, kOptimizerState); }
  // As the target of a reshard, or, on one rank, as its source.
  std::vector<StatePiece> all() {
    std::vector<StatePiece> pieces = shards();
    for (StatePiece& piece : bias_pieces(model, bias)) pieces.push_back(std::move(piece));
    return pieces;
  }
  std::vector<StatePiece> source(Rank rank) { return rank.value == 0 ? all() : shards(); }

  bool here;
  Context ctx;
  Model model;
  std::vector<Bucket> buckets;
  std::vector<float> bias;
};

// The byte that element `index` of a tensor has at `place`, the same in every layout.
uint8_t expected_byte(const std::string& name, StateKind kind, int64_t index, int64_t place) {
  const uint64_t seed =
      std::hash<std::string>{}(name) + static_cast<uint64_t>(kind) * 0x9e3779b97f4a7c15u +
      static_cast<uint64_t>(index) * 0xbf58476d1ce4e5b9u + static_cast<uint64_t>(place);
  return static_cast<uint8_t>((seed * 0x94d049bb133111ebu) >> 56);
}

void fill_state(const std::vector<StatePiece>& pieces) {
  for (const StatePiece& piece : pieces) {
    const auto size = static_cast<int64_t>(size_of(piece.dtype));
    for (int64_t i = 0; i < piece.count * size; ++i)
      piece.values[i] =
          std::byte{expected_byte(piece.name, piece.kind, piece.offset + i / size, i % size)};
  }
}

int64_t count_wrong_bytes(const std::vector<StatePiece>& pieces) {
  int64_t wrong = 0;
  for (const StatePiece& piece : pieces) {
    const auto size = static_cast<int64_t>(size_of(piece.dtype));
    for (int64_t i = 0; i < piece.count * size; ++i)
      wrong += piece.values[i] !=
               std::byte{expected_byte(piece.name, piece.kind, piece.offset + i / size, i % size)};
  }
  return wrong;
}

TEST(Layout, ReshardsFourTwoThreeOneAndBack) {
  run_ranks(4, [](Rank rank, Comm& comm) {
    const Channel channel = comm.channel(LinkLane::host, comm.world());
    const auto tensors = state_tensors(small_model(), kAllKinds);
    std::optional<Holder> before;
    for (const auto& [size, expert] :
         {std::pair(4, 4), std::pair(2, 1), std::pair(3, 3), std::pair(1, 1), std::pair(4, 2),
          std::pair(2, 2), std::pair(4, 4)}) {
      Holder now(size, expert, rank);
      if (!before) {
        fill_state(now.all());
      } else {
        reshard(channel, before->source(rank), now.all(), 1000);
      }
      EXPECT_EQ(count_wrong_bytes(now.all()), 0) << size << " ranks, experts over " << expert;
      Layout::gather(channel, now.source(rank)).require_complete(tensors);
      before.emplace(size, expert,
                     rank);  // buffers of their own, so that nothing is right by accident
      reshard(channel, now.source(rank), before->all());
    }
  });
}

TEST(Layout, GradientsMoveAsTheStretchThatIsSummedHere) {
  std::mutex mutex;
  std::set<std::pair<std::string, int64_t>> seen;
  run_ranks(3, [&](Rank rank, Comm&) {
    Holder holder(3, 1, rank);
    constexpr StateKind kind[] = {StateKind::gradient};
    for (const StatePiece& piece : pieces_of(holder.buckets, kind)) {
      const auto* values = reinterpret_cast<const float*>(piece.values);
      bool inside = false;
      for (const Bucket& bucket : holder.buckets) {
        const float* first = bucket.gradients.data<float>();
        inside = inside || (values >= first + bucket.shard_begin() &&
                            values + piece.count <= first + bucket.shard_end());
      }
      EXPECT_TRUE(inside) << piece.name;
      std::lock_guard lock(mutex);
      for (int64_t i = 0; i < piece.count; ++i)
        EXPECT_TRUE(seen.insert({piece.name, piece.offset + i}).second) << piece.name;
    }
  });
  int64_t elements = 0;
  constexpr StateKind kind[] = {StateKind::gradient};
  for (const StateTensor& tensor : state_tensors(small_model(), kind)) elements += tensor.numel;
  EXPECT_EQ(static_cast<int64_t>(seen.size()), elements);
}

Layout::Stretch stretch(const char* name, int64_t offset, int64_t count, int holder) {
  return {.name = name, .offset = offset, .count = count, .holder = holder};
}

std::string problem_of(std::vector<Layout::Stretch> stretches) {
  const std::vector<StateTensor> tensors = {{"a", StateKind::master, 10},
                                            {"b", StateKind::master, 4}};
  try {
    Layout(std::move(stretches)).require_complete(tensors);
  } catch (const InternalError& error) {
    return error.what();
  }
  return "";
}

TEST(Layout, ProvesThatEachElementHasOneHolder) {
  const auto b = stretch("b", 0, 4, 0);
  EXPECT_EQ(problem_of({stretch("a", 6, 4, 0), stretch("a", 0, 6, 1), b}), "");
  EXPECT_TRUE(has(problem_of({stretch("a", 0, 5, 0), stretch("a", 6, 4, 1), b}),
                  "master of a, elements 5 to 5: held by no rank"));
  EXPECT_TRUE(has(problem_of({stretch("a", 0, 7, 0), stretch("a", 6, 4, 2), b}),
                  "master of a, elements 6 to 6: held by ranks 0 and 2"));
  EXPECT_TRUE(has(problem_of({stretch("a", 0, 9, 0), b}), "elements 9 to 9: held by no rank"));
  EXPECT_TRUE(
      has(problem_of({stretch("a", 0, 11, 0), b}), "elements 10 to 10: past the tensor's end"));
  EXPECT_TRUE(
      has(problem_of({stretch("a", 0, 10, 0)}), "master of b, elements 0 to 3: held by no rank"));
  EXPECT_TRUE(has(problem_of({stretch("a", 0, 10, 0), b, stretch("c", 0, 1, 0)}),
                  "1 pieces belong to no tensor"));
}

TEST(Layout, FindsTheHolder) {
  const Layout layout({stretch("a", 0, 6, 1), stretch("a", 6, 4, 0)});
  EXPECT_EQ(layout.holder_of("a", StateKind::master, 5), 1);
  EXPECT_EQ(layout.holder_of("a", StateKind::master, 6), 0);
  EXPECT_EQ(layout.holder_of("a", StateKind::master, 10), -1);
  EXPECT_EQ(layout.holder_of("a", StateKind::gradient, 5), -1);
}

TEST(Layout, ReshardRefusesWhatIsHeldTwiceOrNowhereOnAllRanks) {
  for (const bool twice : {true, false}) {
    int refused = 0;
    std::mutex mutex;
    run_ranks(3, [&](Rank rank, Comm& comm) {
      const Channel channel = comm.channel(LinkLane::host, comm.world());
      std::vector<float> mine(10), all(10);
      const int64_t first = rank.value * 3,
                    count = twice ? 4 : 3;  // elements 3 and 6 twice, or 9 nowhere
      const StatePiece from{.name = "a",
                            .offset = first,
                            .count = count,
                            .values = std::as_writable_bytes(std::span(mine)).data()};
      const StatePiece to{.name = "a",
                          .offset = 0,
                          .count = 10,
                          .values = std::as_writable_bytes(std::span(all)).data()};
      try {
        reshard(channel, {&from, 1}, {&to, static_cast<size_t>(rank.value == 1)});
      } catch (const InternalError& error) {
        EXPECT_TRUE(has(error.what(), twice ? "elements 3 to 3: held by ranks 0 and 1"
                                            : "9 to 9: held by no rank"));
        std::lock_guard lock(mutex);
        ++refused;
      }
    });
    EXPECT_EQ(refused, 3);
  }
}

TEST(Layout, OneRankCopies) {
  const auto comm = self_comm();
  Holder from(1, 1, Rank{0}), to(1, 1, Rank{0});
  fill_state(from.all());
  reshard(comm->channel(LinkLane::host, comm->world()), from.all(), to.all());
  EXPECT_EQ(count_wrong_bytes(to.all()), 0);
}

}  // namespace
}  // namespace strait
