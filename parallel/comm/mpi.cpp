#include "parallel/comm/mpi.h"

#include <mpi.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <thread>

#include "core/errors.h"
#include "parallel/comm/mpi_environment.h"

namespace strait {
namespace {

using Clock = std::chrono::steady_clock;

// The watch knows more about a lost peer than the error that MPI reports: let it speak first.
constexpr auto kGrace = std::chrono::milliseconds(500);

std::string text_of(int code) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) length = 0;
  return length > 0 ? std::string(text, static_cast<size_t>(length))
                    : "error " + std::to_string(code);
}

void check(int code, const char* call) {
  if (code != MPI_SUCCESS) throw CommError(std::string("[mpi] ") + call + ": " + text_of(code));
}

class MpiTransport : public Transport {
 public:
  explicit MpiTransport(int64_t max_message_bytes) : max_message_bytes_(max_message_bytes) {
    for (MPI_Comm& lane : lanes_) check(MPI_Comm_dup(MPI_COMM_WORLD, &lane), "MPI_Comm_dup");
  }

  ~MpiTransport() override {
    if (abandoned_ || failure_ || std::uncaught_exceptions() > exceptions_) return;
    finalize();
  }

  Ticket send(LinkLane lane, int tag, Rank to, std::span<const std::byte> data) override {
    return post(data.size(), false, "MPI_Isend to rank ", to, [&](MPI_Request* request) {
      return MPI_Isend(data.data(), static_cast<int>(data.size()), MPI_BYTE, to.value, tag,
                       of(lane), request);
    });
  }

  Ticket receive(LinkLane lane, int tag, Rank from, std::span<std::byte> data) override {
    return post(data.size(), true, "MPI_Irecv from rank ", from, [&](MPI_Request* request) {
      return MPI_Irecv(data.data(), static_cast<int>(data.size()), MPI_BYTE, from.value, tag,
                       of(lane), request);
    });
  }

  std::optional<int64_t> done(Ticket ticket) override {
    const std::optional<int64_t> bytes = results_[ticket];
    if (bytes) {
      results_[ticket].reset();
      free_.push_back(ticket);
    }
    return bytes;
  }

  void progress() override {
    if (failure_) {
      if (Clock::now() - failed_at_ > kGrace) throw CommError(*failure_);
      return;
    }
    if (requests_.empty()) {
      int arrived = 0;
      const int code =
          MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, lanes_[0], &arrived, MPI_STATUS_IGNORE);
      if (code != MPI_SUCCESS) fail("MPI_Iprobe", code);
      return;
    }
    test_some();
  }

  int64_t max_message_bytes() const override { return max_message_bytes_; }
  // A message whose request is complete may still lie in a queue of MPI, which only moves in calls.
  std::chrono::milliseconds idle_poll() const override { return std::chrono::milliseconds(10); }
  void abandon(const std::string& /*why*/) override { abandoned_ = true; }

 private:
  struct Active {
    Ticket ticket;
    int64_t bytes;
    bool receives;
  };

  MPI_Comm of(LinkLane lane) const { return lanes_[static_cast<size_t>(lane)]; }

  void fail(const std::string& call, int code) {
    failure_ = "[mpi] " + call + ": " + text_of(code);
    failed_at_ = Clock::now();
  }

  // NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker): test_some() is where requests end.
  // `start` posts the message. If it fails the ticket is never done and progress() reports it.
  template <class Start>
  Ticket post(size_t bytes, bool receives, const char* call, Rank peer, const Start& start) {
    STRAIT_CHECK(bytes > 0 && static_cast<int64_t>(bytes) <= max_message_bytes_,
                 "messages of 1 to max_message_bytes() bytes");
    if (free_.empty()) {
      free_.push_back(results_.size());
      results_.emplace_back();
    }
    const Ticket ticket = free_.back();
    free_.pop_back();
    if (failure_) return ticket;
    MPI_Request request = MPI_REQUEST_NULL;
    if (const int code = start(&request); code != MPI_SUCCESS) {
      fail(call + std::to_string(peer.value), code);
      return ticket;
    }
    requests_.push_back(request);
    active_.push_back({ticket, static_cast<int64_t>(bytes), receives});
    return ticket;
  }
  // NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker)

  void test_some() {
    indices_.resize(requests_.size());
    statuses_.resize(requests_.size());
    int count = 0;
    const int code = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                                  indices_.data(), statuses_.data());
    if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) return fail("MPI_Testsome", code);
    if (count == MPI_UNDEFINED) count = 0;
    for (int i = 0; i < count; ++i) {
      const MPI_Status& status = statuses_[static_cast<size_t>(i)];
      const Active& active = active_[static_cast<size_t>(indices_[static_cast<size_t>(i)])];
      const int error = code == MPI_SUCCESS ? MPI_SUCCESS : status.MPI_ERROR;
      if (error == MPI_ERR_PENDING) continue;  // a neighbour has failed, this one goes on
      int64_t bytes = active.bytes;
      if (error == MPI_ERR_TRUNCATE) {
        bytes = -1;
      } else if (error != MPI_SUCCESS) {
        return fail(active.receives ? "a receive" : "a send", error);
      } else if (active.receives) {
        int received = 0;
        MPI_Get_count(&status, MPI_BYTE, &received);
        bytes = received;
      }
      results_[active.ticket] = bytes;
    }
    // From the back, so that the places still to be emptied stay where they are.
    std::sort(indices_.begin(), indices_.begin() + count, std::greater<>());
    for (int i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(indices_[static_cast<size_t>(i)]);
      if (!results_[active_[at].ticket]) continue;
      requests_[at] = requests_.back();
      active_[at] = active_.back();
      requests_.pop_back();
      active_.pop_back();
    }
  }

  // MPI_Finalize may spin until the last rank has come: wait asleep before.
  void finalize() {
    MPI_Request all_here = MPI_REQUEST_NULL;
    if (MPI_Ibarrier(MPI_COMM_WORLD, &all_here) != MPI_SUCCESS) return;
    for (int here = 0; !here;) {
      if (MPI_Test(&all_here, &here, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
      if (!here) std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
    for (MPI_Comm& lane : lanes_) MPI_Comm_free(&lane);
    MPI_Finalize();
  }

  const int64_t max_message_bytes_;
  const int exceptions_ = std::uncaught_exceptions();
  std::array<MPI_Comm, kNumLinkLanes> lanes_{};
  std::vector<std::optional<int64_t>> results_;  // by ticket
  std::vector<Ticket> free_;
  std::vector<MPI_Request> requests_;  // in flight
  std::vector<Active> active_;         // beside requests_
  std::vector<int> indices_;           // of test_some()
  std::vector<MPI_Status> statuses_;
  bool abandoned_ = false;
  std::optional<std::string> failure_;
  Clock::time_point failed_at_;
};

// Settings that must stand before MPI_Init; the user's own win.
void prepare_environment() {
  setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
  const int64_t with_header = kMpiPieceBytes + 256;
  setenv("OMPI_MCA_btl_tcp_eager_limit", std::to_string(with_header).c_str(), 0);
  // Containers often forbid the call with which ranks of one host copy from each other's memory;
  // Open MPI then fails message by message.
  char from = 1, to = 0;
  const iovec remote{&from, 1}, local{&to, 1};
  if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != 1)
    setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
}

std::vector<std::string> exchange_hosts(int ranks) {
  constexpr size_t kLength = 256;
  char name[kLength] = "";
  if (gethostname(name, kLength - 1) != 0)
    throw CommError(std::string("[mpi] this host has no name: ") + std::strerror(errno));
  std::vector<char> names(kLength * static_cast<size_t>(ranks));
  check(MPI_Allgather(name, kLength, MPI_CHAR, names.data(), kLength, MPI_CHAR, MPI_COMM_WORLD),
        "MPI_Allgather");
  std::vector<std::string> hosts;
  for (size_t rank = 0; rank < static_cast<size_t>(ranks); ++rank)
    hosts.emplace_back(&names[rank * kLength]);
  return hosts;
}

}  // namespace

std::unique_ptr<Comm> mpi_comm(int64_t max_message_bytes) {
  STRAIT_CHECK(max_message_bytes > 0 && max_message_bytes <= int64_t{1} << 30,
               "a message has at most 1 GiB");
  int initialized = 0;
  MPI_Initialized(&initialized);
  STRAIT_CHECK(!initialized, "MPI can be initialised once in a process");
  prepare_environment();
  int provided = 0, ranks = 0, rank = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  if (provided < MPI_THREAD_SERIALIZED)
    throw CommError("[mpi] this MPI library cannot be called from a thread of Strait's own");
  check(MPI_Comm_size(MPI_COMM_WORLD, &ranks), "MPI_Comm_size");
  check(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
  if (const int expected = launched_ranks().value_or(ranks); expected != ranks) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    MPI_Get_library_version(version, &length);
    throw RecipeError("started as one of " + std::to_string(expected) + " ranks, but MPI sees " +
                      std::to_string(ranks) +
                      "; the launcher belongs to another MPI than the one Strait was built with: " +
                      std::string(version).substr(0, std::string(version).find(',')));
  }
  std::vector<std::string> hosts = exchange_hosts(ranks);
  return std::make_unique<Comm>(std::make_unique<MpiTransport>(max_message_bytes), Rank{rank},
                                std::move(hosts));
}

}  // namespace strait
