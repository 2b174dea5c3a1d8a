#include "parallel/sim/price.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "core/errors.h"

namespace strait {
namespace {

double& of(TaskCost& cost, Link link) { return cost.share[static_cast<size_t>(link)]; }

// One of `num_parts` parts of the experts.
TaskOp part_of(TaskOp op, int num_parts) {
  op.cost.flops /= num_parts;
  op.cost.again_flops /= num_parts;
  op.cost.bytes /= num_parts;
  op.cost.gemm.rows /= num_parts;
  op.cost.gemm.groups = std::max<int64_t>(1, op.cost.gemm.groups / num_parts);
  return op;
}

// What goes over the two links under each other. Rates: of this transfer alone.
TaskCost transfer(const Cluster& cluster, double far_bytes, double far_rate, double near_bytes,
                  double near_rate) {
  TaskCost cost{.bytes_near = near_bytes, .bytes_far = far_bytes};
  cost.seconds = std::max(far_bytes / far_rate, near_bytes / near_rate);
  if (cost.seconds == 0) return cost;
  const double card = std::min(1.0, far_bytes / cost.seconds / far_message_rate(cluster));
  of(cost, Link::card_up) = of(cost, Link::card_down) = card;
  of(cost, Link::fabric) = std::min(1.0, near_bytes / cost.seconds / near_message_rate(cluster));
  return cost;
}

class Pricer {
 public:
  Pricer(const Cluster& cluster, const ModelWork& work) : cluster_(cluster), work_(work) {}

  TaskCost price(int position, const Task& task) {
    switch (task.kind) {
      case Kind::dispatch:
      case Kind::combine:
        return exchange_cost(cluster_, work_, task.kind, task.pass, task.num_parts);
      case Kind::send:
        return message(task.send.rows, 0);
      case Kind::receive:
        return message(0, task.receive.rows);
      case Kind::swap:
        return message(task.send.rows, task.receive.rows);
      case Kind::commit:
        return {.latency_seconds = cluster_.commit_latency};
      case Kind::reduce_gradients:
        return collective(bucket(position, task), 4);
      case Kind::gather_weights: {
        const BucketWork& b = bucket(position, task);
        return collective(b, double(size_of(b.dtype)));
      }
      case Kind::gradient_norm:
        return compute(gradient_norm(position));
      case Kind::update:
        return compute(update(bucket(position, task)));
      case Kind::pack_weights: {
        const BucketWork& b = bucket(position, task);
        const double bytes = double(b.numel) * double(size_of(b.dtype)) + double(b.packed_bytes);
        return compute(b.packed_bytes > 0 ? elementwise_seconds(cluster_, bytes) : 0);
      }
      default:
        return compute(phase_seconds(task));
    }
  }

 private:
  const BucketWork& bucket(int position, const Task& task) const {
    return work_.buckets.at(size_t(position)).at(size_t(task.bucket));
  }
  TaskCost compute(double seconds) const {
    TaskCost cost{.seconds = seconds};
    of(cost, Link::cores) = 1;
    return cost;
  }
  double ops_seconds(const PhaseWork& phase, int num_parts = 1) const {
    double seconds = 0;
    for (const TaskOp& op : phase.ops) seconds += op_seconds(cluster_, part_of(op, num_parts));
    return seconds;
  }
  // Programs repeat their tasks for every micro-batch and layer: each is priced once.
  double phase_seconds(const Task& task) {
    const int ended = work_.ends_layer(task);
    const auto key = std::tuple(task.kind, work_.like_layer(task.layer), task.pass, task.num_parts,
                                work_.like_layer(ended));
    const auto [found, is_new] = seconds_.try_emplace(key, 0.0);
    if (!is_new) return found->second;
    const PhaseWork& phase = work_.phase(task.kind, task.layer, task.pass);
    double seconds = ops_seconds(phase, task.kind == Kind::experts ? task.num_parts : 1);
    if (ended >= 0) seconds += ops_seconds(work_.phase(Kind::combine, ended, task.pass));
    return found->second = seconds;
  }
  double gradient_norm(int position) const {
    double bytes = 0;
    for (const BucketWork& b : work_.buckets.at(size_t(position))) bytes += 4 * shard_of(b);
    return elementwise_seconds(cluster_, bytes);
  }
  static double shard_of(const BucketWork& b) { return double(b.numel) / double(b.replicas); }
  // Gradient read, master and moments read and written, weights written; then all gradients are set
  // to zero.
  double update(const BucketWork& b) const {
    const double element = 4 + 8 + 4 * double(work_.moments_bytes) + double(size_of(b.dtype));
    return elementwise_seconds(cluster_, element * shard_of(b)) +
           elementwise_seconds(cluster_, 4 * double(b.numel));
  }

  TaskCost message(int64_t rows_up, int64_t rows_down) const {
    const double up = double(rows_up) * work_.message_row_bytes;
    const double down = double(rows_down) * work_.message_row_bytes, most = std::max(up, down);
    TaskCost cost;
    if (work_.stages_share_node) {
      cost.latency_seconds = cluster_.fabric_latency;
      cost.seconds = most / near_message_rate(cluster_);
      of(cost, Link::fabric) = 1;
      cost.bytes_near = up;
    } else {
      cost.latency_seconds = cluster_.card_latency;
      cost.seconds = most / far_message_rate(cluster_);
      of(cost, Link::card_up) = most > 0 ? up / most : 0;
      of(cost, Link::card_down) = most > 0 ? down / most : 0;
      cost.bytes_far = up;
    }
    return cost;
  }
  // Reduce-scatter or all-gather, as in parallel/comm: N (L - 1) / L bytes inside the node, N (1 /
  // L - 1 / R) between.
  TaskCost collective(const BucketWork& b, double element_bytes) const {
    const double all = double(b.numel) * element_bytes;
    const double inside = double(b.replicas_per_node), nodes = double(b.replicas) / inside;
    TaskCost cost =
        transfer(cluster_, all * (1 / inside - 1 / double(b.replicas)), far_message_rate(cluster_),
                 all * (inside - 1) / inside, near_message_rate(cluster_));
    // One rank after another in a ring, at each level.
    cost.latency_seconds =
        (nodes - 1) * cluster_.card_latency + (inside - 1) * cluster_.fabric_latency;
    return cost;
  }

  const Cluster& cluster_;
  const ModelWork& work_;
  std::map<std::tuple<Kind, int, Pass, int, int>, double> seconds_;
};

}  // namespace

double op_seconds(const Cluster& cluster, const TaskOp& op) {
  const Cost& cost = op.cost;
  const GemmSize& g = cost.gemm;
  switch (cost.op_class) {
    case OpClass::linear:
    case OpClass::expert: {
      if (g.rows == 0) return 0;
      const int64_t rows = std::max<int64_t>(1, g.rows / g.groups);
      if (g.weight_gradient)
        return gemm_seconds(cluster, GemmKind::weight_gradient, op.precision,
                            {.m = g.out, .n = g.in, .k = rows, .groups = g.groups});
      return gemm_seconds(cluster,
                          cost.op_class == OpClass::expert ? GemmKind::grouped : GemmKind::dense,
                          op.precision, {.m = rows, .n = g.out, .k = g.in, .groups = g.groups});
    }
    case OpClass::attention:
      return attention_seconds(cluster, op.precision, cost.flops + cost.again_flops,
                               cost.again_flops > 0);
    default:
      return elementwise_seconds(cluster, cost.bytes);
  }
}

ExchangeLoad exchange_load(const ModelWork& work, Kind kind, Pass pass) {
  const auto found = work.exchanges.find({kind, pass});
  STRAIT_CHECK(found != work.exchanges.end(), name_of(kind));
  const ExchangeBytes& bytes = found->second;
  const double tokens = double(work.tokens), pairs = double(work.top_k) * bytes.pair;
  const double ranks = double(work.expert_ranks), nodes = double(work.expert_nodes);
  const double inside = ranks / nodes;  // ranks of a node
  // On average over the source: its own node is one of the nodes, and it is one of its node's
  // ranks. On two tiers a row arrives at the rank in the source's place of a node, and crosses the
  // fabric to ranks in other places.
  const double far = (nodes - 1) / nodes;
  const double near = work.two_tier ? (inside - 1) / inside : (inside - 1) / ranks;
  const double far_rows = work.two_tier ? work.nodes_of_token : work.ranks_of_token;
  return {.far_bytes = tokens * far * (far_rows * bytes.row + pairs),
          .near_bytes = tokens * near * (work.ranks_of_token * bytes.row + pairs)};
}

TaskCost exchange_cost(const Cluster& cluster, const ModelWork& work, Kind kind, Pass pass,
                       int num_waves) {
  const ExchangeLoad bytes = exchange_load(work, kind, pass);
  TaskCost cost = transfer(cluster, bytes.far_bytes / num_waves, far_exchange_rate(cluster),
                           bytes.near_bytes / num_waves, near_exchange_rate(cluster));
  cost.latency_seconds = (bytes.far_bytes > 0 ? cluster.card_latency : 0) +
                         (bytes.near_bytes > 0 ? cluster.fabric_latency : 0);
  if (work.two_tier)  // the first chunk's second hop has nothing to run under
    cost.latency_seconds += std::min(bytes.far_bytes / far_exchange_rate(cluster),
                                     bytes.near_bytes / near_exchange_rate(cluster)) /
                            num_waves / work.exchange_chunks;
  of(cost, Link::cores) = cluster.exchange_cores / cluster.cores;
  return cost;
}

std::vector<std::vector<TaskCost>> price_programs(const Cluster& cluster, const ModelWork& work,
                                                  std::span<const Program> programs) {
  Pricer pricer(cluster, work);
  std::vector<std::vector<TaskCost>> costs;
  for (const Program& program : programs) {
    std::vector<TaskCost>& of_position = costs.emplace_back();
    for (const Task& task : program.tasks)
      of_position.push_back(pricer.price(program.position, task));
  }
  return costs;
}

}  // namespace strait
