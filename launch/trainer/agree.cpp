#include "launch/trainer/agree.h"

#include <cstring>
#include <new>
#include <stdexcept>
#include <system_error>

#include "parallel/comm/all_reduce.h"
#include "parallel/comm/exchange.h"

namespace strait {
namespace {

Channel host_channel(Comm& comm) { return comm.channel(LinkLane::host, comm.world()); }

[[noreturn]] void throw_with_code(int code, const std::string& text) {
  switch (code) {
    case 2:
      throw RecipeError(text);
    case 3:
      throw DataError(text);
    case 4:
      throw CommError(text);
    case 5:
      throw NumericsError(text);
    default:
      throw InternalError(text);
  }
}

// Runs the work; what it threw as "<exit code> text", or empty.
std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const CommError&) {
    throw;  // the Comm is gone: nothing can be agreed any more
  } catch (const std::exception& error) {
    return std::to_string(exit_code_of(error)) + " " + message_of(error);
  }
  return {};
}

// A vector that could never be so long is one that memory has no room for.
bool is_out_of_memory(const std::exception& error) {
  return dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
         dynamic_cast<const std::length_error*>(&error) != nullptr;
}

}  // namespace

std::string message_of(const std::exception& error) {
  return is_out_of_memory(error) ? std::string("not enough memory: ") + error.what() : error.what();
}

int exit_code_of(const std::exception& error) {
  if (const auto* elsewhere = dynamic_cast<const ReportedElsewhere*>(&error))
    return elsewhere->exit_code;
  if (dynamic_cast<const RecipeError*>(&error) || is_out_of_memory(error)) return 2;
  if (dynamic_cast<const DataError*>(&error) || dynamic_cast<const std::system_error*>(&error))
    return 3;
  if (dynamic_cast<const CommError*>(&error)) return 4;
  if (dynamic_cast<const NumericsError*>(&error)) return 5;
  return 1;
}

std::string from_rank(Comm& comm, Rank rank, const std::string& text) {
  if (comm.size() == 1) return text;
  const Channel channel = host_channel(comm);
  const bool root = comm.rank() == rank;
  int64_t size = root ? static_cast<int64_t>(text.size()) : 0;
  channel.enqueue(broadcast(channel, rank.value, std::as_writable_bytes(std::span(&size, 1))))
      .wait();
  std::string result = root ? text : std::string(static_cast<size_t>(size), '\0');
  if (size > 0)
    channel.enqueue(broadcast(channel, rank.value, std::as_writable_bytes(std::span(result))))
        .wait();
  return result;
}

Rank rank_of_largest(Comm& comm, int64_t value) {
  if (comm.size() == 1) return {0};
  const Channel channel = host_channel(comm);
  const auto largest_of = [&channel](int64_t mine) {
    channel.enqueue(all_reduce_max(channel, std::span(&mine, 1))).wait();
    return mine;
  };
  const int64_t largest = largest_of(value), last = comm.size() - 1;
  const int64_t first = last - largest_of(value == largest ? last - comm.rank().value : 0);
  return {static_cast<int>(first)};
}

void together(Comm& comm, const std::function<void()>& work) {
  if (comm.size() == 1) return work();
  const std::string mine = error_of(work);
  std::vector<std::string> all;
  const Channel channel = host_channel(comm);
  channel.enqueue(gather_strings(channel, 0, mine, &all)).wait();
  std::string first;
  for (size_t rank = 0; rank < all.size() && first.empty(); ++rank) {
    if (all[rank].empty()) continue;
    first = all[rank];
    if (rank > 0) first.insert(2, "rank " + std::to_string(rank) + ": ");
  }
  first = from_rank_zero(comm, first);
  if (first.empty()) return;
  const int code = first[0] - '0';
  if (comm.rank().value != 0) throw ReportedElsewhere(code);
  throw_with_code(code, first.substr(2));
}

void sum_over_ranks(Comm& comm, std::span<double> values) {
  if (comm.size() == 1 || values.empty()) return;
  const Channel channel = host_channel(comm);
  channel.enqueue(all_reduce_sum(channel, values)).wait();
}

void sum_over_ranks(Comm& comm, std::span<int64_t> values) {
  if (comm.size() == 1 || values.empty()) return;
  const Channel channel = host_channel(comm);
  channel.enqueue(all_reduce_sum(channel, values)).wait();
}

}  // namespace strait
