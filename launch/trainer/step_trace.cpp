#include "launch/trainer/step_trace.h"

#include <algorithm>
#include <chrono>
#include <sstream>

#include "launch/trainer/agree.h"
#include "parallel/comm/exchange.h"

namespace strait {
namespace {

// Fields of a span as they travel, one span a line. Names have spaces and come last.
void put(std::ostream& out, const Task& task, const TaskSpan& span) {
  out << int(task.lane) << ' ' << int(task.kind) << ' ' << int(task.pass) << ' ' << task.microbatch
      << ' ' << task.layer << ' ' << task.chunk << ' ' << task.pair << ' ' << span.start_ns << ' '
      << span.end_ns << ' ' << span.bytes << ' ' << to_string(task) << '\n';
}

Span read(std::istream& in, int rank, int64_t zero_ns) {
  Span span;
  span.rank = rank;
  int lane = 0, kind = 0, pass = 0;
  int64_t start = 0, end = 0;
  in >> lane >> kind >> pass >> span.microbatch >> span.layer >> span.chunk >> span.pair >> start >>
      end >> span.bytes;
  in.ignore();
  std::getline(in, span.name);
  span.lane = static_cast<Lane>(lane);
  span.kind = name_of(static_cast<Kind>(kind));
  span.pass = static_cast<Pass>(pass);
  span.start_us = static_cast<double>(start - zero_ns) * 1e-3;
  span.end_us = static_cast<double>(end - zero_ns) * 1e-3;
  return span;
}

}  // namespace

int64_t common_zero(Comm& comm) {
  std::vector<int64_t> there(1, 1);
  sum_over_ranks(comm, there);
  const auto self = static_cast<size_t>(comm.rank().value);
  std::vector<int64_t> seen(static_cast<size_t>(comm.size()), 0);
  seen[self] =
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  int64_t zero = seen[self];
  sum_over_ranks(comm, seen);
  for (size_t rank = 0; rank < seen.size(); ++rank)
    if (comm.hosts()[rank] == comm.hosts()[self]) zero = std::min(zero, seen[rank]);
  return zero;
}

Trace gather_trace(Comm& comm, const Engine& engine, std::string title, int64_t zero_ns) {
  std::ostringstream mine;
  mine << zero_ns << '\n';
  const std::vector<Task>& tasks = engine.last_program().tasks;
  for (size_t i = 0; i < tasks.size(); ++i) put(mine, tasks[i], engine.last_spans()[i]);
  std::vector<std::string> all{mine.str()};
  if (comm.size() > 1) {
    const Channel channel = comm.channel(LinkLane::host, comm.world());
    all.clear();
    channel.enqueue(gather_strings(channel, 0, mine.str(), &all)).wait();
  }
  Trace trace{.title = std::move(title), .predicted = false, .spans = {}};
  for (size_t rank = 0; rank < all.size(); ++rank) {
    std::istringstream lines(std::move(all[rank]));
    int64_t zero = 0;
    lines >> zero;
    lines.ignore();
    while (lines.peek() != std::istream::traits_type::eof())
      trace.spans.push_back(read(lines, static_cast<int>(rank), zero));
  }
  return trace;
}

}  // namespace strait
