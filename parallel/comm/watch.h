// parallel/comm/watch.h: notices within seconds that a rank is lost, and says which and where it
// was.
//
// Every rank keeps a small TCP connection to rank 0 (a star; addresses and a random token travel
// over the Comm, the listening socket closes once all have joined). A closed connection or a
// missing heartbeat is a loss. Heartbeats carry step, task, and what the rank waits for with whom.
// On a loss the Comm of every surviving rank fails with a CommError of one line; rank 0's, which
// knows of all, also names those that waited for the lost one:
//
//   lost rank 2 (host a) at step 17, task experts.F m0 l3: its connection closed; rank 0 (host a)
//   was at step 17, task attention.F m1 l3, waiting for combine.F m0 l3 with ranks 0, 2; waiting
//   for rank 2, too: rank 5 (host b) in receive.F m0 l4
//
// Use, in launch/:
//
//   auto comm = mpi_comm();
//   Watch watch(*comm, {.on_loss = print_line});
//   try { ...; watch.set_task(step, task); ...; watch.close(); comm.reset(); }
//   catch (const std::exception& error) {
//     if (watch.abandon(error.what())) print_line(watch.place() + error.what());
//     std::_Exit(code);                                    // see mpi.h
//   }
//
// Rank 0 needs a file descriptor per rank. The Comm must outlive the Watch. A SIGTERM that arrives
// when lost() is true comes from mpirun, which ends the survivors of a job: it is no stop request.
// Thread-safe.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "parallel/comm/comm.h"

namespace strait {

struct WatchSettings {
  std::chrono::milliseconds heartbeat{250};
  // A rank silent for so long is lost. It must bridge moments in which its host is overloaded.
  std::chrono::milliseconds silence{8000};
  std::chrono::milliseconds connect{30000};  // for all ranks to join
  // Called once, on a thread of the Watch, with the line above, before the Comm fails: the compute
  // thread may be busy for longer than mpirun lets it live (it ends the survivors 1 to 2 s after a
  // loss). On the lowest surviving rank only, but if rank 0 is lost on one rank of each host,
  // because the others do not know then who survives. Must be quick and must not throw.
  std::function<void(const std::string&)> on_loss = {};
};

class Watch {
 public:
  // Collective over all ranks of the Comm; uses its host lane. Errors: CommError if the ranks
  // cannot reach rank 0. A world of one rank needs no connection.
  explicit Watch(Comm& comm, WatchSettings settings = {});
  // As close() without its exception; when an exception is on its way up, as abandon().
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // What this rank does now. Any thread, any number of times: takes about 0.1 us, sends nothing.
  void set_task(int64_t step, std::string_view task);
  // That before `task` it waits for `transfer`, in which `ranks` take part (none: all); until
  // set_task().
  void set_wait(int64_t step, std::string_view task, std::string_view transfer,
                const std::vector<Rank>& ranks);
  // "rank 2 (host a) at step 17: ", empty before the first step.
  std::string place() const;

  // The good end; collective: sleeps until all ranks have called it. After it the end of a rank is
  // no loss. Throws CommError if one is lost before that.
  void close();

  // The bad end: tells the others that this rank stops, and why; their Comms fail with "rank 2
  // (host a) failed: <why>". Does not wait for anyone for longer than half a second.
  // Returns true if this rank should print `why`: false if on_loss has printed it, or if another
  // rank prints it (the one that failed first; of the survivors of a loss the lowest).
  bool abandon(const std::string& why);

  bool lost() const;  // a peer is lost or has failed

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace strait
