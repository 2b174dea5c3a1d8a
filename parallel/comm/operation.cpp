#include "parallel/comm/operation.h"

#include <utility>

namespace strait {
namespace {

class Sequence : public Operation {
 public:
  explicit Sequence(std::vector<Step> steps) : steps_(std::move(steps)) {}

  bool poll() override {
    for (;;) {
      if (current_) {
        if (!current_->poll()) return false;
        current_.reset();
        steps_[next_ - 1] = nullptr;  // not before: what it holds may be what its operation uses
      }
      if (next_ == steps_.size()) return true;
      current_ = steps_[next_++]();
    }
  }

 private:
  std::vector<Step> steps_;
  size_t next_ = 0;
  OperationPtr current_;
};

class Together : public Operation {
 public:
  explicit Together(std::vector<OperationPtr> operations) : operations_(std::move(operations)) {}

  bool poll() override {
    bool all = true;
    for (OperationPtr& operation : operations_) {
      if (operation && operation->poll()) operation.reset();
      all = all && !operation;
    }
    return all;
  }

 private:
  std::vector<OperationPtr> operations_;
};

}  // namespace

OperationPtr sequence(std::vector<Step> steps) {
  return std::make_unique<Sequence>(std::move(steps));
}

OperationPtr together(std::vector<OperationPtr> operations) {
  return std::make_unique<Together>(std::move(operations));
}

}  // namespace strait
