#include "parallel/expert/row_path.h"

#include <algorithm>
#include <cstring>

#include "parallel/comm/stages.h"

namespace strait {
namespace {

// Of a relay's work at a time, between which other lanes are served.
constexpr int64_t kPartBytes = 256 << 10;

// Calls body(begin, end) for all rows of `ranges`, a part per poll.
OperationPtr for_rows(const Channel& channel, const std::vector<RowRange>& ranges,
                      int64_t row_bytes, std::function<void(int64_t, int64_t)> body) {
  const int64_t most = std::max<int64_t>(1, kPartBytes / row_bytes);
  std::vector<RowRange> parts;
  for (const RowRange& range : ranges)
    for (int64_t row = range.first; row < range.last; row += most)
      parts.push_back({row, std::min(range.last, row + most)});
  const auto count = static_cast<int64_t>(parts.size());
  return in_parts(
      channel, count, 1, [parts = std::move(parts), body = std::move(body)](int64_t part, int64_t) {
        body(parts[static_cast<size_t>(part)].first, parts[static_cast<size_t>(part)].last);
      });
}

int64_t row_bytes_of(const Tensor& rows) {
  return rows.cols() * static_cast<int64_t>(size_of(rows.dtype()));
}

constexpr int kFarAhead = 2;  // chunks on the far link, so that it never waits for the next one

}  // namespace

RowPath::RowPath(Context& ctx, RowPlan plan, const Channel& first, const Channel* second,
                 int chunks)
    : ctx_(ctx),
      second_channel_(second),
      node_experts_(plan.parts.experts_of(first.self())),
      first_(first, std::move(plan), chunks) {
  STRAIT_CHECK(second || chunks == 1, "[row path] chunks are for two hops");
}

Tensor RowPath::like(const Tensor& rows, int64_t count, Purpose purpose) const {
  return ctx_.empty({count, rows.cols()}, rows.dtype(), purpose);
}

RowPath::RelayPtr RowPath::relay_for(const Tensor& rows, const Tensor& in_node) const {
  const int64_t count = first_.arriving().num_rows();
  const auto relay = std::make_shared<Relay>(
      Relay{.whole = like(rows, count, Purpose::communication),
            .parted = like(in_node, second_->plan().num_rows(), Purpose::communication),
            .sums = {}});
  if (rows.cols() != in_node.cols()) relay->sums = like(in_node, count, Purpose::communication);
  return relay;
}

OperationPtr RowPath::dispatch(const Tensor& words, const Tensor& rows, Tensor& arrived) {
  std::vector<Step> steps;
  steps.push_back([this, words] { return first_.exchange_route(ctx_, words); });
  steps.push_back([this, rows, &arrived] {
    if (second_channel_)
      return through_relay(
          rows, arrived,
          std::make_shared<Relay>(
              Relay{.whole = like(rows, first_.arriving().num_rows(), Purpose::communication),
                    .parted = {},
                    .sums = {}}));
    arrived = like(rows, first_.arriving().num_rows(), Purpose::routed);
    return first_.send_rows(rows, arrived, 0);
  });
  return sequence(std::move(steps));
}

OperationPtr RowPath::send(const Tensor& rows, const Tensor& arrived) {
  if (!second_channel_) return first_.send_rows(rows, arrived, 0);
  std::vector<Step> steps;
  const auto held = std::make_shared<Tensor>(arrived);
  steps.push_back([this, rows, held] { return through_relay(rows, *held, relay_for(rows, rows)); });
  return sequence(std::move(steps));
}

// Far under near. Where the second hop is not known yet, the first chunk's near step makes it.
OperationPtr RowPath::through_relay(const Tensor& rows, Tensor& arrived, const RelayPtr& relay) {
  Stage far{.steps = {}, .ahead = kFarAhead}, near;
  for (int chunk = 0; chunk < first_.chunks(); ++chunk) {
    far.steps.push_back(
        [this, rows, relay, chunk] { return first_.send_rows(rows, relay->whole, chunk); });
    near.steps.push_back([this, &arrived, relay, chunk] {
      std::vector<Step> steps;
      if (!second_)
        steps.push_back([=, this, &arrived] { return plan_second_hop(arrived, relay); });
      steps.push_back([=, this] { return copy_chunk(relay, chunk); });
      steps.push_back(
          [=, this, &arrived] { return second_->send_rows(relay->parted, arrived, chunk); });
      return sequence(std::move(steps));
    });
  }
  return overlapped(std::move(far), std::move(near));
}

// What came for this node's ranks, by chunk, source node and token.
void RowPath::plan_second() {
  const int nodes = first_.plan().parts.num_parts();
  std::vector<RowRange> stretches;
  for (size_t chunk = 0; chunk < static_cast<size_t>(first_.chunks()); ++chunk)
    for (int node = 0; node < nodes; ++node) stretches.push_back(first_.arriving(node, chunk));
  second_ = std::make_unique<Hop>(*second_channel_,
                                  plan_rows(first_.arriving(), stretches,
                                            parts_in_node(node_experts_, second_channel_->size())),
                                  first_.chunks());
}

OperationPtr RowPath::plan_second_hop(Tensor& arrived, const RelayPtr& relay) {
  plan_second();
  std::vector<float> weights;
  for (const int32_t pair : second_->plan().source_pair)
    weights.push_back(first_.arriving_weights()[static_cast<size_t>(pair)]);
  const Tensor words = ctx_.empty({second_->route_words()}, DType::i32, Purpose::communication);
  second_->pack_route(weights, words);
  std::vector<Step> steps;
  steps.push_back([this, words] { return second_->exchange_route(ctx_, words); });
  steps.push_back([this, &arrived, relay]() -> OperationPtr {
    arrived = like(relay->whole, second_->arriving().num_rows(), Purpose::routed);
    relay->parted = like(relay->whole, second_->plan().num_rows(), Purpose::communication);
    return nullptr;
  });
  return sequence(std::move(steps));
}

OperationPtr RowPath::copy_chunk(const RelayPtr& relay, int chunk) const {
  std::vector<RowRange> ranges;
  ranges.reserve(static_cast<size_t>(second_channel_->size()));
  for (int member = 0; member < second_channel_->size(); ++member)
    ranges.push_back(second_->planned_chunk(member, chunk));
  const int64_t row_bytes = row_bytes_of(relay->whole);
  return for_rows(
      *second_channel_, ranges, row_bytes, [this, relay, row_bytes](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row)
          std::memcpy(
              relay->parted.raw() + row * row_bytes,
              relay->whole.raw() + second_->plan().source_row[static_cast<size_t>(row)] * row_bytes,
              static_cast<size_t>(row_bytes));
      });
}

OperationPtr RowPath::add_chunk(const RelayPtr& relay, int chunk) const {
  std::vector<RowRange> ranges;
  ranges.reserve(static_cast<size_t>(first_.plan().parts.num_parts()));
  for (int node = 0; node < first_.plan().parts.num_parts(); ++node)
    ranges.push_back(first_.arriving_chunk(node, chunk));
  return for_rows(*second_channel_, ranges, row_bytes_of(relay->whole),
                  [this, relay](int64_t begin, int64_t end) {
                    const bool encodes = relay->sums.defined();
                    tree_sum_part(relay->parted, second_->plan().sums(), node_experts_, begin, end,
                                  encodes ? relay->sums : relay->whole);
                    if (encodes)
                      encode_fp8_wire_part(relay->sums, kActivationScales, begin, end,
                                           relay->whole);
                  });
}

OperationPtr RowPath::return_sums(const Tensor& arrived, const Tensor& rows) {
  if (!second_channel_) return first_.return_rows(arrived, rows, 0);
  std::vector<Step> steps;
  steps.push_back([this, arrived, rows] {
    const RelayPtr relay = relay_for(rows, arrived);
    Stage near, far{.steps = {}, .ahead = kFarAhead};
    for (int chunk = 0; chunk < first_.chunks(); ++chunk) {
      near.steps.push_back([this, arrived, relay, chunk] {
        std::vector<Step> parts;
        parts.push_back([=, this] { return second_->return_rows(arrived, relay->parted, chunk); });
        parts.push_back([=, this] { return add_chunk(relay, chunk); });
        return sequence(std::move(parts));
      });
      far.steps.push_back(
          [this, rows, relay, chunk] { return first_.return_rows(relay->whole, rows, chunk); });
    }
    return overlapped(std::move(near), std::move(far));
  });
  return sequence(std::move(steps));
}

OperationPtr RowPath::return_pairs(const Tensor& arrived, const Tensor& planned) {
  if (!second_channel_) return first_.return_pairs(arrived, planned);
  const auto numbers = [this](int64_t count) {
    return ctx_.empty({count}, DType::f32, Purpose::communication);
  };
  const Tensor parted = numbers(second_->plan().num_pairs());
  const Tensor whole = numbers(first_.arriving().num_pairs());
  std::vector<Step> steps;
  steps.push_back([this, arrived, parted] { return second_->return_pairs(arrived, parted); });
  steps.push_back([this, parted, whole, planned] {
    const std::vector<int32_t>& source = second_->plan().source_pair;
    for (size_t pair = 0; pair < source.size(); ++pair)
      whole.data<float>()[source[pair]] = parted.data<float>()[pair];
    return first_.return_pairs(whole, planned);
  });
  return sequence(std::move(steps));
}

std::vector<RowRange> RowPath::source_order() const {
  const Hop& hop = last();
  std::vector<RowRange> order;
  if (!second_channel_) return {{0, hop.arriving().num_rows()}};
  const auto nodes = static_cast<size_t>(first_.plan().parts.num_parts());
  for (size_t node = 0; node < nodes; ++node)
    for (int place = 0; place < second_channel_->size(); ++place)
      for (size_t chunk = 0; chunk < static_cast<size_t>(first_.chunks()); ++chunk)
        order.push_back(hop.arriving(place, chunk * nodes + node));
  return order;
}

}  // namespace strait
