// parallel/comm/comm.h: the communication of one rank.
//
// A Comm owns one thread, the communication thread, which makes every call to the backend. It
// serves five lanes: ordered queues that progress independently of each other. It sleeps when
// nothing is queued; otherwise it polls, quickly for a moment after something moved, then every 0.2
// to 1 ms, so that ranks may outnumber cores. Backends: self.h, local.h (ranks as threads of one
// process), mpi.h.
//
//   Channel far = comm.channel(LinkLane::far, mesh.expert(comm.rank()));
//   Event done = far.enqueue(all_to_all(far, {...}), {segment_done});
//   done.wait();
//
// The first failure (a lost peer, a message of the wrong size, an `after` event that failed) is
// final: every pending and every later operation of this Comm fails with it.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "parallel/comm/event.h"
#include "parallel/comm/operation.h"
#include "parallel/comm/transport.h"
#include "parallel/mesh/groups.h"

namespace strait {

class Comm;

// Payload bytes this rank has sent on one lane since the start.
struct LaneBytes {
  int64_t same_node = 0;
  int64_t other_nodes = 0;
};

// One (lane, group): a tag space of its own. A small value to copy; valid as long as its Comm.
class Channel {
 public:
  const Group& group() const { return *group_; }
  int size() const { return group_->size(); }
  int self() const { return group_->self(); }
  LinkLane lane() const { return lane_; }

  // Queues `operation` at the end of this channel's lane. It starts when the operations queued
  // before it have finished and all of `after` are done; other lanes do not wait for that.
  // Thread-safe.
  Event enqueue(OperationPtr operation, std::vector<Event> after = {}) const;

  // For operations, on the communication thread. `peer` is a position in the group.
  Transport::Ticket send(int peer, std::span<const std::byte> data) const;
  Transport::Ticket receive(int peer, std::span<std::byte> data) const;
  std::optional<int64_t> done(Transport::Ticket ticket) const;
  void poll_again()
      const;  // this poll() did not return true but did something: do not sleep before the next
  int64_t max_message_bytes() const;
  bool same_node(int peer) const;
  // k if the group is made of runs of k ranks per node, k a power of two, on more than one node;
  // else 0. Collectives then cross between nodes once instead of k times.
  int ranks_per_node() const { return ranks_per_node_; }

 private:
  friend class Comm;
  Channel(Comm& comm, LinkLane lane, const Group& group);
  Comm* comm_;
  LinkLane lane_;
  std::shared_ptr<const Group> group_;
  int ranks_per_node_ = 0;
};

class Comm {
 public:
  // `hosts`: the host name of every rank, in rank order.
  Comm(std::unique_ptr<Transport> transport, Rank rank, std::vector<std::string> hosts);
  // Pending operations fail. A rank that ends well has waited for its events before.
  ~Comm();
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;

  Rank rank() const { return rank_; }
  int size() const { return static_cast<int>(hosts_.size()); }
  const std::vector<std::string>& hosts() const { return hosts_; }
  // The node of every rank by name: its host, unless group_nodes() says otherwise.
  const std::vector<std::string>& nodes() const { return nodes_; }
  // Every `ranks_per_node` ranks count as one node from now on, for layouts of several nodes on one
  // host. REQUIRES: there is no channel yet. Errors: RecipeError when the ranks do not fill nodes.
  void group_nodes(int ranks_per_node);
  WorldGroup world() const;

  Channel channel(LinkLane lane, const Group& group) { return {*this, lane, group}; }
  // As Channel::enqueue, for an operation that uses channels of several groups. REQUIRES: they are
  // all of `lane`.
  Event enqueue(LinkLane lane, OperationPtr operation, std::vector<Event> after = {});

  // Fails everything, from any thread; the first call counts. On return no pending operation
  // touches its buffers.
  void fail(std::exception_ptr error);
  std::exception_ptr failure() const;  // null: none

  LaneBytes bytes_sent(LinkLane lane) const;

 private:
  friend class Channel;
  struct State;
  struct Queued;
  void run();
  bool advance(LinkLane lane, bool& active);
  void give_up();
  void pause(bool progressed);

  const Rank rank_;
  const std::vector<std::string> hosts_;
  std::vector<std::string> nodes_;
  std::vector<int> node_of_rank_;
  std::unique_ptr<Transport> transport_;
  std::shared_ptr<State> state_;
  std::array<std::unique_ptr<Queued>, kNumLinkLanes> current_;  // of the communication thread
  std::thread thread_;
};

}  // namespace strait
