// parallel/comm/local.h: ranks as threads of one process, for tests (also under ThreadSanitizer)
// and for small runs.
//
// Sends are synchronous: one is done only when the receiver has posted the matching receive. That
// is the strictest reading of MPI, so a program that runs here does not depend on buffering.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/comm.h"

namespace strait {

class LocalWorld {
 public:
  // `hosts`: pretended host name of each rank; empty: all on one. `max_message_bytes` is for tests
  // of splitting.
  explicit LocalWorld(int num_ranks, std::vector<std::string> hosts = {},
                      int64_t max_message_bytes = int64_t{1} << 30);
  ~LocalWorld();

  int size() const;
  // The Comm of one rank; one at a time per rank. When it fails, all others fail with "rank R
  // failed: ...".
  std::unique_ptr<Comm> comm(Rank rank);

  class Hub;  // what the ranks share

 private:
  std::shared_ptr<Hub> hub_;
};

// Runs fn(rank, comm) for each rank on a thread of its own and returns when all have. An exception
// in one makes the others' communication fail; the first one is rethrown here, a cause before the
// CommErrors that it makes.
void run_ranks(LocalWorld& world, const std::function<void(Rank, Comm&)>& fn);
void run_ranks(int num_ranks, const std::function<void(Rank, Comm&)>& fn);

}  // namespace strait
