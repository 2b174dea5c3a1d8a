#include "parallel/comm/stages.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "core/errors.h"

namespace strait {
namespace {

class RunningStage {
 public:
  explicit RunningStage(Stage stage) : stage_(std::move(stage)) {}

  size_t finished() const { return finished_; }
  // Starts and polls steps below `limit`. True if any has finished.
  bool advance(size_t limit) {
    const auto ahead = static_cast<size_t>(stage_.ahead);
    const size_t before = finished_;
    for (size_t i = 0; i < in_flight_.size(); ++i) poll(i);
    for (;;) {
      while (!in_flight_.empty() && !in_flight_.front()) {
        in_flight_.pop_front();
        stage_.steps[finished_++] = nullptr;
      }
      const size_t next = finished_ + in_flight_.size();
      if (next >= std::min(limit, finished_ + ahead)) return finished_ != before;
      in_flight_.push_back(stage_.steps[next]());
      poll(in_flight_.size() - 1);
    }
  }

 private:
  void poll(size_t index) {
    OperationPtr& operation = in_flight_[index];
    if (operation && operation->poll()) operation.reset();
  }

  Stage stage_;
  std::deque<OperationPtr> in_flight_;  // null: finished
  size_t finished_ = 0;                 // steps, up to the first that has not
};

class Overlapped : public Operation {
 public:
  Overlapped(Stage first, Stage second)
      : num_steps_(first.steps.size()), first_(std::move(first)), second_(std::move(second)) {}

  bool poll() override {
    first_.advance(num_steps_);
    second_.advance(first_.finished());
    return second_.finished() == num_steps_;
  }

 private:
  size_t num_steps_;
  RunningStage first_, second_;
};

class InParts : public Operation {
 public:
  InParts(const Channel& channel, int64_t count, int64_t most,
          std::function<void(int64_t, int64_t)> body)
      : channel_(channel), count_(count), most_(most), body_(std::move(body)) {}

  bool poll() override {
    const int64_t end = std::min(count_, next_ + most_);
    if (end > next_) body_(next_, end);
    next_ = end;
    if (next_ == count_) return true;
    channel_.poll_again();
    return false;
  }

 private:
  Channel channel_;
  int64_t count_, most_, next_ = 0;
  std::function<void(int64_t, int64_t)> body_;
};

}  // namespace

OperationPtr overlapped(Stage first, Stage second) {
  STRAIT_CHECK(first.steps.size() == second.steps.size() && first.ahead >= 1 && second.ahead >= 1,
               "[overlapped] two stages of equally many steps");
  return std::make_unique<Overlapped>(std::move(first), std::move(second));
}

OperationPtr in_parts(const Channel& channel, int64_t count, int64_t most,
                      std::function<void(int64_t begin, int64_t end)> body) {
  return std::make_unique<InParts>(channel, count, most, std::move(body));
}

}  // namespace strait
