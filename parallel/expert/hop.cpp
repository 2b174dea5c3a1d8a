#include "parallel/expert/hop.h"

#include <cstring>
#include <memory>
#include <numeric>

#include "core/errors.h"
#include "parallel/comm/all_to_all.h"
#include "parallel/comm/exchange.h"

namespace strait {
namespace {

std::vector<int64_t> starts_of(std::span<const int64_t> counts) {
  std::vector<int64_t> starts(counts.size() + 1, 0);
  std::partial_sum(counts.begin(), counts.end(), starts.begin() + 1);
  return starts;
}

std::vector<int64_t> words_of(std::vector<int64_t> rows_P, const std::vector<int64_t>& pairs_P) {
  for (size_t member = 0; member < rows_P.size(); ++member) rows_P[member] += 2 * pairs_P[member];
  return rows_P;
}

std::span<std::byte> bytes_of(const Tensor& tensor) {
  return {tensor.raw(), static_cast<size_t>(tensor.bytes())};
}

}  // namespace

Hop::Hop(const Channel& channel, RowPlan plan, int chunks)
    : channel_(channel), plan_(std::move(plan)), chunks_(chunks) {
  STRAIT_CHECK(plan_.parts.num_parts() == channel.size() &&
                   plan_.num_stretches % static_cast<size_t>(chunks) == 0,
               "[hop] a part for each member, and stretches for each chunk");
  planned_at_ = starts_of(plan_.rows_PS);
}

std::vector<int64_t> Hop::rows_of_members(const Starts& starts) const {
  std::vector<int64_t> rows;
  for (int member = 0; member < channel_.size(); ++member) {
    const RowRange all = range(starts, member, 0, plan_.num_stretches);
    rows.push_back(all.last - all.first);
  }
  return rows;
}

void Hop::pack_route(const std::vector<float>& weights, const Tensor& words) const {
  int32_t* out = words.data<int32_t>();
  const RowPairs& pairs = plan_.pairs;
  for (size_t row = 0; row + 1 < pairs.row_offsets.size(); ++row) {
    const int32_t begin = pairs.row_offsets[row], end = pairs.row_offsets[row + 1];
    *out++ = end - begin;
    for (auto pair = static_cast<size_t>(begin); pair < static_cast<size_t>(end); ++pair) {
      *out++ = pairs.experts[pair];
      std::memcpy(out++, &weights[pair], sizeof(float));
    }
  }
}

OperationPtr Hop::exchange_route(Context& ctx, const Tensor& words) {
  struct Flight {
    std::vector<int64_t> sent, received;  // rows of each stretch, then pairs, for each member
    Tensor words;
  };
  const auto flight = std::make_shared<Flight>();
  const auto members = static_cast<size_t>(channel_.size());
  const size_t stretches = plan_.num_stretches;
  for (size_t member = 0; member < members; ++member) {
    const auto rows = plan_.rows_PS.begin() + static_cast<std::ptrdiff_t>(member * stretches);
    flight->sent.insert(flight->sent.end(), rows, rows + static_cast<std::ptrdiff_t>(stretches));
    flight->sent.push_back(plan_.pairs_P[member]);
  }
  flight->received.resize(flight->sent.size());
  std::vector<Step> steps;
  steps.push_back(
      [this, flight] { return all_to_all_counts(channel_, flight->sent, flight->received); });
  steps.push_back([this, &ctx, words, flight, members, stretches] {
    std::vector<int64_t> rows;
    for (size_t member = 0; member < members; ++member) {
      const auto counts =
          flight->received.begin() + static_cast<std::ptrdiff_t>(member * (stretches + 1));
      rows.insert(rows.end(), counts, counts + static_cast<std::ptrdiff_t>(stretches));
      arriving_pairs_.push_back(counts[static_cast<std::ptrdiff_t>(stretches)]);
    }
    arriving_at_ = starts_of(rows);
    const auto send_words = words_of(rows_of_members(planned_at_), plan_.pairs_P);
    const auto recv_words = words_of(rows_of_members(arriving_at_), arriving_pairs_);
    flight->words = ctx.empty({std::accumulate(recv_words.begin(), recv_words.end(), int64_t{0})},
                              DType::i32, Purpose::communication);
    return all_to_all(channel_, {.send = bytes_of(words),
                                 .recv = bytes_of(flight->words),
                                 .send_rows_R = send_words,
                                 .recv_rows_R = recv_words,
                                 .row_bytes = 4});
  });
  steps.push_back([this, flight]() -> OperationPtr {
    read_route(flight->words);
    return nullptr;
  });
  return sequence(std::move(steps));
}

void Hop::read_route(const Tensor& words) {
  const int32_t* in = words.data<int32_t>();
  const auto num_pairs = static_cast<size_t>(
      std::accumulate(arriving_pairs_.begin(), arriving_pairs_.end(), int64_t{0}));
  arriving_.row_offsets.reserve(static_cast<size_t>(arriving_at_.back()) + 1);
  arriving_.experts.reserve(num_pairs);
  arriving_weights_.reserve(num_pairs);
  for (int64_t row = 0; row < arriving_at_.back(); ++row) {
    for (int32_t count = *in++; count > 0; --count) {
      arriving_.experts.push_back(*in++);
      float weight;
      std::memcpy(&weight, in++, sizeof(float));
      arriving_weights_.push_back(weight);
    }
    arriving_.row_offsets.push_back(static_cast<int32_t>(arriving_.num_pairs()));
  }
}

OperationPtr Hop::move_chunk(const Tensor& from, const Starts& from_at, const Tensor& to,
                             const Starts& to_at, int chunk) const {
  const auto row_bytes = from.cols() * static_cast<int64_t>(size_of(from.dtype()));
  STRAIT_CHECK(from.contiguous() && to.contiguous() && from.dtype() == to.dtype(),
               "[hop] rows of one type, one behind the other");
  const auto bytes = [&](const Tensor& rows, const Starts& at, int member) {
    const RowRange part = chunk_range(at, member, chunk);
    return bytes_of(rows).subspan(static_cast<size_t>(part.first * row_bytes),
                                  static_cast<size_t>((part.last - part.first) * row_bytes));
  };
  const int members = channel_.size(), self = channel_.self();
  Exchange messages;
  // Each member begins with its next neighbour, so that not all send to the same one first.
  for (int step = 1; step < members; ++step) {
    const int sender = (self - step + members) % members, receiver = (self + step) % members;
    messages.receives.push_back({.from = sender, .data = bytes(to, to_at, sender)});
    messages.sends.push_back({.to = receiver, .data = bytes(from, from_at, receiver)});
  }
  const auto mine = bytes(from, from_at, self);
  if (!mine.empty()) std::memcpy(bytes(to, to_at, self).data(), mine.data(), mine.size());
  return exchange(channel_, std::move(messages));
}

OperationPtr Hop::send_rows(const Tensor& planned, const Tensor& arriving, int chunk) const {
  return move_chunk(planned, planned_at_, arriving, arriving_at_, chunk);
}

OperationPtr Hop::return_rows(const Tensor& arriving, const Tensor& planned, int chunk) const {
  return move_chunk(arriving, arriving_at_, planned, planned_at_, chunk);
}

OperationPtr Hop::return_pairs(const Tensor& arriving, const Tensor& planned) const {
  return all_to_all(channel_, {.send = bytes_of(arriving),
                               .recv = bytes_of(planned),
                               .send_rows_R = arriving_pairs_,
                               .recv_rows_R = plan_.pairs_P,
                               .row_bytes = 4});
}

}  // namespace strait
