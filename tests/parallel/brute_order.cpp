#include "tests/parallel/brute_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <tuple>
#include <unordered_map>

#include "core/scramble.h"

namespace strait {
namespace {

// What tasks read and write, by name: "Out" of layer 3 for micro-batch 1, one per source.
enum class What : uint8_t {
  output,  // of a layer, in parts by who made them
  normed,  // rows that experts read; route included
  dispatched,
  sums,             // of one part
  saved,            // by a forward phase for its backward
  final_normed,     // of the main head's norm
  logits_gradient,  // at the head's input, as its forward leaves it
  output_gradient,
  sums_gradient,
  rows_gradient,
  normed_gradient,
  final_normed_gradient,
  for_weights,   // what an input gradient leaves for the weight gradient
  gradient_sum,  // of one use of a parameter, added to in order
  loss_sum,
  any_gradient,  // of a bucket: added to by many in any order, then reduced or zeroed
  gradient_shard,
  new_weights,
  gathered_weights,
  packed_weights,
  norm,
  agreement,
};

struct Operand {
  What what;
  int microbatch = -1, layer = -1, source = 0;
  auto order() const { return std::tuple(what, microbatch, layer, source); }
  friend bool operator<(const Operand& a, const Operand& b) { return a.order() < b.order(); }
};

struct Access {
  std::vector<Operand> reads, writes;
};

int source_of(Kind kind, int part = 0) { return static_cast<int>(kind) * 64 + part; }

// The operands of one task.
class Operands {
 public:
  Operands(const StepShape& shape, int position)
      : shape_(shape), buckets_(shape.buckets[static_cast<size_t>(position)]) {}

  Access of(const Task& task) {
    access_ = {};
    task_ = &task;
    m_ = task.microbatch;
    l_ = task.layer;
    source_ = source_of(task.kind, task.part);
    if (task.kind == Kind::send || task.kind == Kind::swap) send(task.send);
    if (task.kind == Kind::receive || task.kind == Kind::swap) receive(task.receive);
    if (task.lane != Lane::pipe) {
      if (m_ < 0)
        boundary();
      else if (task.pass == Pass::forward)
        forward();
      else if (task.pass == Pass::input_gradient)
        input_gradient();
      else
        weight_gradient();
    }
    return access_;
  }

 private:
  void read(Operand operand) { access_.reads.push_back(operand); }
  void write(Operand operand) { access_.writes.push_back(operand); }

  void read_output(int m, int layer) {
    for (const Kind kind : {Kind::embed, Kind::attention, Kind::mlp, Kind::shared, Kind::receive})
      read({What::output, m, layer, source_of(kind)});
    for (int part = 0; part < shape_.waves; ++part)
      for (const Kind kind : {Kind::experts, Kind::combine})
        read({What::output, m, layer, source_of(kind, part)});
  }
  void read_weights(int layer) {
    for_buckets(layer, [&](int bucket) { read({What::packed_weights, -1, bucket}); });
  }
  // Adds to a sum of its own, and to whatever buckets the layer's parameters are in.
  void add_to_gradients(int layer, int use) {
    write({What::gradient_sum, -1, layer, use});
    for_buckets(layer, [&](int bucket) { read({What::any_gradient, -1, bucket}); });
  }
  template <typename F>
  void for_buckets(int layer, F f) {
    for (size_t bucket = 0; bucket < buckets_.size(); ++bucket)
      for (const int of : buckets_[bucket].layers)
        if (of == layer) f(static_cast<int>(bucket));
  }

  void send(const Message& message) {
    if (message.pass == Pass::forward)
      read_output(message.microbatch, message.layer - 1);
    else
      read({What::output_gradient, message.microbatch, message.layer - 1});
  }
  void receive(const Message& message) {
    if (message.pass == Pass::forward)
      write({What::output, message.microbatch, message.layer - 1, source_of(Kind::receive)});
    else
      write({What::output_gradient, message.microbatch, message.layer - 1});
  }

  void boundary() {
    const int bucket = task_->bucket;
    switch (task_->kind) {
      case Kind::gradient_norm:
        for (size_t any = 0; any < buckets_.size(); ++any)
          read({What::gradient_shard, -1, static_cast<int>(any)});
        return write({What::norm});
      case Kind::commit:
        read({What::norm});
        for (int layer = -1; layer < static_cast<int>(shape_.layer_is_moe.size()); ++layer)
          write({What::loss_sum, -1, layer});
        return write({What::agreement});
      case Kind::update:
        read({What::agreement});
        read({What::gradient_shard, -1, bucket});
        write({What::any_gradient, -1, bucket});
        return write({What::new_weights, -1, bucket});
      case Kind::gather_weights:
        read({What::new_weights, -1, bucket});
        return write({What::gathered_weights, -1, bucket});
      case Kind::pack_weights:
        read({What::gathered_weights, -1, bucket});
        return write({What::packed_weights, -1, bucket});
      case Kind::reduce_gradients:
        write({What::any_gradient, -1, bucket});
        return write({What::gradient_shard, -1, bucket});
      default:
        throw std::logic_error("no operands for " + to_string(*task_));
    }
  }

  void forward() {
    const int part = task_->part;
    switch (task_->kind) {
      case Kind::embed:
        read_weights(-1);
        return write({What::output, m_, -1, source_});
      case Kind::attention:
        read_weights(l_);
        if (l_ == shape_.num_hidden_layers)
          read({What::final_normed, m_});
        else
          read_output(m_, l_ - 1);
        write({What::saved, m_, l_, source_});
        write({What::normed, m_, l_});
        return write({What::output, m_, l_, source_});
      case Kind::dispatch:
        read({What::normed, m_, l_});
        return write({What::dispatched, m_, l_, part});
      case Kind::mlp:
      case Kind::shared:
        read_weights(l_);
        read({What::normed, m_, l_});
        write({What::saved, m_, l_, source_});
        return write({What::output, m_, l_, source_});
      case Kind::experts:
        read_weights(l_);
        if (shape_.exchanges)
          read({What::dispatched, m_, l_, part});
        else
          read({What::normed, m_, l_});
        write({What::saved, m_, l_, source_});
        if (shape_.exchanges) return write({What::sums, m_, l_, part});
        return write({What::output, m_, l_, source_});
      case Kind::combine:
        read({What::sums, m_, l_, part});
        return write({What::output, m_, l_, source_});
      case Kind::head:
        read_weights(l_);
        read_output(m_, l_);
        write({What::saved, m_, l_, source_});
        write({What::logits_gradient, m_, l_});
        if (l_ == shape_.num_hidden_layers - 1) write({What::final_normed, m_});
        write({What::loss_sum, -1, l_});
        write({What::gradient_sum, -1, -2, source_of(Kind::head)});  // one weight for both heads
        return for_buckets(l_, [&](int bucket) { read({What::any_gradient, -1, bucket}); });
      default:
        throw std::logic_error("no operands for " + to_string(*task_));
    }
  }

  void input_gradient() {
    const int part = task_->part;
    const auto leave_for_weights = [&] {
      read_weights(l_);
      read({What::saved, m_, l_, source_});
      write({What::for_weights, m_, l_, source_});
    };
    switch (task_->kind) {
      case Kind::head:
        read({What::saved, m_, l_, source_});
        read({What::logits_gradient, m_, l_});
        if (l_ == shape_.num_hidden_layers - 1) read({What::final_normed_gradient, m_});
        read_weights(l_);
        write({What::output_gradient, m_, l_});
        return add_to_gradients(l_, source_of(Kind::head));
      case Kind::combine:
        read({What::normed, m_, l_});  // the route
        read({What::output_gradient, m_, l_});
        return write({What::sums_gradient, m_, l_, part});
      case Kind::experts:
        leave_for_weights();
        if (shape_.exchanges)
          read({What::sums_gradient, m_, l_, part});
        else
          read({What::output_gradient, m_, l_});
        return write(
            {shape_.exchanges ? What::rows_gradient : What::normed_gradient, m_, l_, source_});
      case Kind::dispatch:
        read({What::rows_gradient, m_, l_, source_of(Kind::experts, part)});
        return write({What::normed_gradient, m_, l_, source_});
      case Kind::mlp:
      case Kind::shared:
        leave_for_weights();
        read({What::output_gradient, m_, l_});
        return write({What::normed_gradient, m_, l_, source_});
      case Kind::attention:
        leave_for_weights();
        read({What::output_gradient, m_, l_});
        for (const Kind kind : {Kind::mlp, Kind::shared})
          read({What::normed_gradient, m_, l_, source_of(kind)});
        for (int any = 0; any < shape_.waves; ++any)
          for (const Kind kind : {Kind::experts, Kind::dispatch})
            read({What::normed_gradient, m_, l_, source_of(kind, any)});
        if (l_ == shape_.num_hidden_layers)
          write({What::final_normed_gradient, m_});
        else
          write({What::output_gradient, m_, l_ - 1});
        return add_to_gradients(l_, source_of(Kind::attention, 1));  // gains of norms
      case Kind::embed:
        read({What::output_gradient, m_, -1});
        return add_to_gradients(-1, source_);
      default:
        throw std::logic_error("no operands for " + to_string(*task_));
    }
  }

  void weight_gradient() {
    read({What::for_weights, m_, l_, source_});
    read({What::saved, m_, l_, source_});
    add_to_gradients(l_, source_);
  }

  const StepShape& shape_;
  const std::vector<BucketShape>& buckets_;
  Access access_;
  const Task* task_ = nullptr;
  int m_ = -1, l_ = -1, source_ = 0;
};

// All that makes a task the task it is, in 64 bits; where it stands and what it waits for is not.
uint64_t identity(const Task& t) {
  uint64_t bits = 0;
  const auto add = [&](int64_t value) { bits = splitmix(bits ^ static_cast<uint64_t>(value)); };
  for (const int value :
       {static_cast<int>(t.kind), static_cast<int>(t.pass), static_cast<int>(t.lane), t.microbatch,
        t.layer, t.bucket, t.part, t.num_parts, t.chunk})
    add(value);
  for (const Message& m : {t.send, t.receive}) {
    for (const int value : {m.microbatch, static_cast<int>(m.pass), m.layer}) add(value);
    add(m.rows);
  }
  add(t.capacity_rows);
  for (const int position : t.positions) add(position);
  return bits;
}

// Tasks of several positions that are one: messages by what they carry, collectives by their
// bucket's name.
std::string common_name(const StepShape& shape, int position, const Task& t) {
  const auto crossing = [](int from, int to, const Message& m) {
    return fmt::format("{}>{} {} {} {}", from, to, m.microbatch, static_cast<int>(m.pass), m.layer);
  };
  if (t.kind == Kind::send) return crossing(position, t.positions[0], t.send);
  if (t.kind == Kind::receive) return crossing(t.positions[0], position, t.receive);
  if (t.kind == Kind::swap) {
    const std::string there = crossing(position, t.positions[0], t.send);
    const std::string back = crossing(t.positions[0], position, t.receive);
    return std::min(there, back) + " & " + std::max(there, back);
  }
  if (t.kind == Kind::commit) return "commit";
  const std::vector<BucketShape>& buckets = shape.buckets[static_cast<size_t>(position)];
  return fmt::format("{} {}", static_cast<int>(t.kind),
                     buckets[static_cast<size_t>(t.bucket)].name);
}

}  // namespace

// Who happens before whom, as one row of bits per task; tasks that happen together share a row.
class BruteOrder::Closure {
 public:
  Closure(const StepShape& shape, std::span<const Program> programs) {
    int num_tasks = 0;
    std::unordered_map<std::string, int> together;
    std::vector<std::pair<int, int>> edges;
    for (const Program& program : programs) {
      const int first = num_tasks;
      int last[kNumLanes];
      std::fill(std::begin(last), std::end(last), -1);
      for (const Task& task : program.tasks) {
        const int self = num_tasks++;
        node_.push_back(self);
        if (!task.positions.empty())
          node_.back() =
              together.try_emplace(common_name(shape, program.position, task), self).first->second;
        int& before = last[static_cast<int>(task.lane)];
        if (before >= 0) edges.emplace_back(before, self);
        before = self;
        for (const int after : task.after) {
          edges.emplace_back(first + after, self);
          if (first + after >= self) problem_ = "waits for a task that is issued later";
        }
      }
    }
    if (problem_.empty()) close(edges);
  }

  const std::string& problem() const { return problem_; }
  bool before(int first, int second) const {
    const auto row = static_cast<size_t>(node_[static_cast<size_t>(second)]) * words_;
    const auto bit = static_cast<size_t>(node_[static_cast<size_t>(first)]);
    return bits_[row + bit / 64] >> (bit % 64) & 1;
  }

 private:
  void close(const std::vector<std::pair<int, int>>& edges) {
    const size_t count = node_.size();
    words_ = (count + 63) / 64;
    bits_.assign(count * words_, 0);
    std::vector<std::vector<int>> successors(count);
    std::vector<int> waits(count, 0);
    for (const auto& [from, to] : edges) {
      const int earlier = node_[static_cast<size_t>(from)], later = node_[static_cast<size_t>(to)];
      successors[static_cast<size_t>(earlier)].push_back(later);
      ++waits[static_cast<size_t>(later)];
    }
    std::vector<int> ready;
    size_t ran = 0, nodes = 0;
    for (size_t i = 0; i < count; ++i) {
      if (node_[i] != static_cast<int>(i)) continue;
      ++nodes;
      if (waits[i] == 0) ready.push_back(static_cast<int>(i));
    }
    while (!ready.empty()) {
      const auto node = static_cast<size_t>(ready.back());
      ready.pop_back();
      ++ran;
      for (const int next : successors[node]) {
        const auto to = static_cast<size_t>(next) * words_;
        for (size_t word = 0; word < words_; ++word)
          bits_[to + word] |= bits_[node * words_ + word];
        bits_[to + node / 64] |= uint64_t{1} << (node % 64);
        if (--waits[static_cast<size_t>(next)] == 0) ready.push_back(next);
      }
    }
    if (ran < nodes) problem_ = "deadlocks";
  }

  std::vector<int> node_;  // [task over all positions]
  size_t words_ = 0;
  std::vector<uint64_t> bits_;
  std::string problem_;
};

BruteOrder::BruteOrder(const StepShape& shape, std::vector<Program> original)
    : shape_(shape), original_(std::move(original)) {
  const Closure closure(shape, original_);
  if (!closure.problem().empty()) throw std::logic_error("the original " + closure.problem());
  int first = 0;
  for (const Program& program : original_) {
    std::map<Operand, std::pair<std::vector<int>, std::vector<int>>> users;  // readers, writers
    Operands operands(shape, program.position);
    for (size_t i = 0; i < program.tasks.size(); ++i) {
      const Access access = operands.of(program.tasks[i]);
      for (const Operand& operand : access.reads)
        users[operand].first.push_back(first + static_cast<int>(i));
      for (const Operand& operand : access.writes)
        users[operand].second.push_back(first + static_cast<int>(i));
    }
    const auto add = [&](int a, int b) {
      if (closure.before(b, a)) std::swap(a, b);
      if (!closure.before(a, b))
        throw std::logic_error(
            fmt::format("[position {}] {} and {} conflict and are in no order", program.position,
                        to_string(program.tasks[static_cast<size_t>(a - first)]),
                        to_string(program.tasks[static_cast<size_t>(b - first)])));
      conflicts_.push_back({a, b});
    };
    for (const auto& [operand, by] : users) {
      const auto& [readers, writers] = by;
      for (size_t i = 0; i < writers.size(); ++i) {
        for (size_t j = i + 1; j < writers.size(); ++j) add(writers[i], writers[j]);
        for (const int reader : readers)
          if (reader != writers[i]) add(reader, writers[i]);
      }
    }
    first += static_cast<int>(program.tasks.size());
  }
  const auto order = [](const Conflict& c) { return std::pair(c.first, c.second); };
  std::sort(conflicts_.begin(), conflicts_.end(),
            [&](const Conflict& a, const Conflict& b) { return order(a) < order(b); });
  const auto same = [&](const Conflict& a, const Conflict& b) { return order(a) == order(b); };
  conflicts_.erase(std::unique(conflicts_.begin(), conflicts_.end(), same), conflicts_.end());
}

std::string BruteOrder::harm(std::span<const Program> changed) const {
  std::vector<int> now;  // [task of the original]: its number in `changed`
  int first = 0;
  for (size_t position = 0; position < original_.size(); ++position) {
    const std::vector<Task>& before = original_[position].tasks;
    const std::vector<Task>& after = changed[position].tasks;
    if (before.size() != after.size()) return "has other tasks";
    std::unordered_map<uint64_t, int> places;
    for (size_t i = 0; i < after.size(); ++i)
      places[identity(after[i])] = first + static_cast<int>(i);
    if (places.size() != after.size()) return "has tasks twice";
    for (const Task& task : before) {
      const auto found = places.find(identity(task));
      if (found == places.end()) return "has other tasks";
      now.push_back(found->second);
    }
    first += static_cast<int>(before.size());
  }
  const Closure closure(shape_, changed);
  if (!closure.problem().empty()) return closure.problem();
  for (const Conflict& conflict : conflicts_)
    if (!closure.before(now[static_cast<size_t>(conflict.first)],
                        now[static_cast<size_t>(conflict.second)]))
      return "has conflicting tasks in another order";
  return "";
}

}  // namespace strait
