#include "parallel/program/execute.h"

#include <atomic>
#include <chrono>
#include <vector>

#include "core/errors.h"

namespace strait {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

int64_t nanoseconds_of(Clock::time_point time) {
  return std::chrono::nanoseconds(time.time_since_epoch()).count();
}

template <class Failure>
class OfTask : public Failure, public ThrownByTask {
 public:
  using Failure::Failure;
};

// While an exception is handled: throws it again with the task behind its text. A NumericsError,
// which all ranks throw alike and which names its step, stays as it is, and so does what is no
// Error.
[[noreturn]] void throw_again_from(const Task& task) {
  const auto text = [&task](const Error& error) {
    return std::string(error.what()) + " (" + to_string(task) + ")";
  };
  try {
    throw;
  } catch (const NotFiniteError& error) {
    throw OfTask<NotFiniteError>(text(error));
  } catch (const RecipeError& error) {
    throw OfTask<RecipeError>(text(error));
  } catch (const DataError& error) {
    throw OfTask<DataError>(text(error));
  } catch (const CommError& error) {
    throw OfTask<CommError>(text(error));
  } catch (const InternalError& error) {
    throw OfTask<InternalError>(text(error));
  }
}

// Makes the real operation when its turn has come, and measures it. A lane runs one at a time: what
// it sends meanwhile is this one's.
class Transfer : public Operation {
 public:
  Transfer(const Task& task, const Bindings& bindings, const Comm& comm, TaskSpan* span,
           std::atomic<int64_t>& nanoseconds)
      : task_(task), bindings_(bindings), comm_(comm), span_(span), nanoseconds_(nanoseconds) {}

  bool poll() override {
    try {
      return advance();
    } catch (...) {
      throw_again_from(task_);
    }
  }

 private:
  bool advance() {
    if (!started_) {
      started_ = true;
      start_ = Clock::now();
      if (span_ != nullptr) sent_before_ = sent();
      operation_ = bindings_.transfer(task_);
    }
    if (operation_ && !operation_->poll()) return false;
    const Clock::time_point end = Clock::now();
    nanoseconds_ += std::chrono::nanoseconds(end - start_).count();
    if (span_ != nullptr)
      *span_ = {nanoseconds_of(start_), nanoseconds_of(end), sent() - sent_before_};
    return true;
  }
  int64_t sent() const {
    const LaneBytes bytes = comm_.bytes_sent(link_lane(task_.lane));
    return bytes.same_node + bytes.other_nodes;
  }

  const Task& task_;
  const Bindings& bindings_;
  const Comm& comm_;
  TaskSpan* const span_;
  std::atomic<int64_t>& nanoseconds_;
  OperationPtr operation_;
  Clock::time_point start_;
  int64_t sent_before_ = 0;
  bool started_ = false;
};

}  // namespace

LinkLane link_lane(Lane lane) {
  switch (lane) {
    case Lane::near:
      return LinkLane::near;
    case Lane::far:
      return LinkLane::far;
    case Lane::pipe:
      return LinkLane::pipe;
    case Lane::shard:
      return LinkLane::shard;
    case Lane::host:
      return LinkLane::host;
    case Lane::compute:
      break;
  }
  STRAIT_CHECK(false, "the compute lane has no link");
}

ExecutionTimes execute(const Program& program, Comm& comm, const Bindings& bindings,
                       const ExecuteOptions& options) {
  const auto start = Clock::now();
  ExecutionTimes times;
  std::atomic<int64_t> transfer_nanoseconds{0};
  const size_t count = program.tasks.size();
  if (options.spans != nullptr) options.spans->assign(count, {});
  const auto span_of = [&](size_t index) {
    return options.spans != nullptr ? &(*options.spans)[index] : nullptr;
  };
  std::vector<Event> done(count);
  std::vector<std::unique_ptr<Completion>> completions(count);
  for (size_t index = 0; index < count; ++index) {
    if (program.tasks[index].lane != Lane::compute) continue;
    completions[index] = std::make_unique<Completion>();
    done[index] = completions[index]->event();
  }
  const auto tasks_before = [&](size_t index) {
    std::vector<size_t> before(program.tasks[index].after.begin(),
                               program.tasks[index].after.end());
    if (!options.overlap && index > 0) before.push_back(index - 1);
    return before;
  };
  try {
    for (size_t index = 0; index < count; ++index) {
      const Task& task = program.tasks[index];
      if (task.lane == Lane::compute) continue;
      std::vector<Event> events;
      for (const size_t before : tasks_before(index)) events.push_back(done[before]);
      done[index] = comm.enqueue(
          link_lane(task.lane),
          std::make_unique<Transfer>(task, bindings, comm, span_of(index), transfer_nanoseconds),
          std::move(events));
    }
    const auto wait = [&](size_t before, const Task& task) {
      const Event& event = done[before];
      if (event.ready() && !event.error()) return;
      if (bindings.waits) bindings.waits(task, program.tasks[before]);
      const auto begin = Clock::now();
      event.wait();
      times.waiting_seconds += seconds_since(begin);
    };
    for (size_t index = 0; index < count; ++index) {
      const Task& task = program.tasks[index];
      if (task.lane != Lane::compute) continue;
      for (const size_t before : tasks_before(index)) wait(before, task);
      const Clock::time_point begin = Clock::now();
      try {
        bindings.compute(task);
      } catch (...) {
        throw_again_from(task);
      }
      if (TaskSpan* const span = span_of(index))
        *span = {.start_ns = nanoseconds_of(begin), .end_ns = nanoseconds_of(Clock::now())};
      completions[index]->finish();
    }
    for (size_t index = 0; index < count; ++index) wait(index, program.tasks[index]);
  } catch (...) {
    comm.fail(
        std::current_exception());  // nothing pending touches this program's buffers after this
    throw;
  }
  times.transfer_seconds = static_cast<double>(transfer_nanoseconds.load()) * 1e-9;
  times.total_seconds = seconds_since(start);
  return times;
}

void execute_inline(const Program& program, const Bindings& bindings) {
  for (const Task& task : program.tasks) {
    if (task.lane == Lane::compute) {
      bindings.compute(task);
    } else {
      const OperationPtr operation = bindings.transfer(task);
      STRAIT_CHECK(operation == nullptr, to_string(task) + " needs a communication thread");
    }
  }
}

}  // namespace strait
