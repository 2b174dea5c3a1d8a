// parallel/program/rendezvous.h: which tasks of several positions happen together: the two ends of
// a message, the members of a collective. Messages from one position to another match in the order
// of the list, and so do collectives of one lane and one set of positions: that is all a
// communicator knows.
#pragma once

#include <span>
#include <vector>

#include "parallel/program/validate.h"

namespace strait {

struct Rendezvous {
  std::vector<std::vector<int>> event;  // [position][task]: tasks of one number happen together
  int num_events = 0;
  std::vector<Problem>
      problems;  // at most one of each channel and each group: what follows is out of step anyway
};

// `buckets`: [position], for the names that collectives of a bucket must share.
Rendezvous match_tasks(std::span<const Program> programs,
                       std::span<const std::vector<BucketShape>> buckets);

bool is_message(Kind kind);  // send, receive, swap

}  // namespace strait
