#include "launch/view/trace_account.h"

#include <algorithm>
#include <map>

namespace strait {
namespace {

using Stretches = std::vector<Stretch>;

// Sorted and merged where they touch or overlap; empty ones are left out.
Stretches merged(Stretches stretches) {
  std::erase_if(stretches, [](const Stretch& s) { return s.end_us <= s.start_us; });
  std::sort(stretches.begin(), stretches.end(),
            [](const Stretch& a, const Stretch& b) { return a.start_us < b.start_us; });
  Stretches result;
  for (const Stretch& s : stretches) {
    if (!result.empty() && s.start_us <= result.back().end_us) {
      result.back().end_us = std::max(result.back().end_us, s.end_us);
    } else {
      result.push_back(s);
    }
  }
  return result;
}

// REQUIRES of this and the next: both merged.
Stretches common(const Stretches& a, const Stretches& b) {
  Stretches result;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const Stretch both = {std::max(a[i].start_us, b[j].start_us),
                          std::min(a[i].end_us, b[j].end_us)};
    if (both.start_us < both.end_us) result.push_back(both);
    (a[i].end_us < b[j].end_us ? i : j) += 1;
  }
  return result;
}

Stretches without(const Stretches& from, const Stretches& taken) {
  Stretches result;
  size_t next = 0;
  for (Stretch rest : from) {
    while (next < taken.size() && taken[next].end_us <= rest.start_us) ++next;
    for (size_t at = next; at < taken.size() && taken[at].start_us < rest.end_us; ++at) {
      if (taken[at].start_us > rest.start_us) result.push_back({rest.start_us, taken[at].start_us});
      rest.start_us = taken[at].end_us;
    }
    if (rest.start_us < rest.end_us) result.push_back(rest);
  }
  return result;
}

double seconds_of(const Stretches& stretches) {
  double sum_us = 0;
  for (const Stretch& s : stretches) sum_us += s.length_us();
  return sum_us * 1e-6;
}

struct Busy {
  Stretches compute, transfer;
};

RankAccount account_of_rank(int rank, Busy busy, const Stretch& step) {
  const Stretches compute = merged(std::move(busy.compute));
  const Stretches transfer = merged(std::move(busy.transfer));
  RankAccount result{.rank = rank,
                     .hidden = common(transfer, compute),
                     .exposed = without(transfer, compute),
                     .bubbles = without(without({step}, compute), transfer),
                     .account = {}};
  result.account = {.compute_seconds = seconds_of(compute),
                    .transfer_seconds = seconds_of(transfer),
                    .hidden_seconds = seconds_of(result.hidden),
                    .exposed_seconds = seconds_of(result.exposed),
                    .idle_seconds = seconds_of(result.bubbles)};
  return result;
}

}  // namespace

double TraceAccount::hidden_share() const {
  return total.transfer_seconds > 0 ? total.hidden_seconds / total.transfer_seconds : 0;
}

TraceAccount account_of(const Trace& trace) {
  TraceAccount result;
  if (trace.spans.empty()) return result;
  Stretch step{trace.spans.front().start_us, trace.spans.front().end_us};
  std::map<int, Busy> ranks;
  for (const Span& span : trace.spans) {
    step = {std::min(step.start_us, span.start_us), std::max(step.end_us, span.end_us)};
    Busy& busy = ranks[span.rank];
    if (span.lane == Lane::compute) busy.compute.push_back({span.start_us, span.end_us});
    if (is_transfer(span.lane)) busy.transfer.push_back({span.start_us, span.end_us});
  }
  result.start_us = step.start_us;
  result.end_us = step.end_us;
  for (auto& [rank, busy] : ranks) {
    result.ranks.push_back(account_of_rank(rank, std::move(busy), step));
    const LaneAccount& account = result.ranks.back().account;
    result.total.compute_seconds += account.compute_seconds;
    result.total.transfer_seconds += account.transfer_seconds;
    result.total.hidden_seconds += account.hidden_seconds;
    result.total.exposed_seconds += account.exposed_seconds;
    result.total.idle_seconds += account.idle_seconds;
  }
  return result;
}

}  // namespace strait
