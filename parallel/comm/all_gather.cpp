#include "parallel/comm/all_gather.h"

#include <numeric>

#include "core/errors.h"
#include "parallel/comm/transfers.h"

namespace strait {
namespace {

// Each rank sends its block along the rail (to the rank of the same place on every other node) and
// passes on, inside its node, its own block and each that arrives by rail. Without nodes the rail
// is empty. Blocks are passed on in a fixed order (own node's, then the nodes before it, wrapping),
// in which all ranks of the node have posted their receives.
class AllGatherOperation : public Operation {
 public:
  AllGatherOperation(const Channel& channel, const AllGather& blocks)
      : channel_(channel),
        data_(blocks.data),
        bytes_(blocks.bytes_R.begin(), blocks.bytes_R.end()),
        starts_(bytes_.size(), 0),
        near_(channel, "all_gather"),
        rail_sends_(channel, "all_gather") {
    STRAIT_CHECK(bytes_.size() == static_cast<size_t>(channel.size()),
                 "[all_gather] one size per rank of the group");
    std::exclusive_scan(bytes_.begin(), bytes_.end(), starts_.begin(), int64_t{0});
    STRAIT_CHECK(static_cast<int64_t>(data_.size()) == starts_.back() + bytes_.back(),
                 "[all_gather] the buffer does not have the size that the blocks give");
    local_ = channel.ranks_per_node() > 0 ? channel.ranks_per_node() : channel.size();
    nodes_ = channel.size() / local_;
    node_ = channel.self() / local_;
    place_ = channel.self() % local_;
  }

  bool poll() override {
    if (!started_) start();
    started_ = true;
    while (passed_on_ < nodes_ && rail_[static_cast<size_t>(passed_on_)].poll())
      pass_on(passed_on_++);
    const bool near_done = near_.poll(), rail_done = rail_sends_.poll();
    return passed_on_ == nodes_ && near_done && rail_done;
  }

 private:
  std::span<std::byte> block(int node, int place) const {
    const auto rank = static_cast<size_t>(node * local_ + place);
    return data_.subspan(static_cast<size_t>(starts_[rank]), static_cast<size_t>(bytes_[rank]));
  }
  int node_before(int step) const { return (node_ - step + nodes_) % nodes_; }

  void start() {
    for (int step = 0; step < nodes_; ++step) {
      const int from = node_before(step), to = (node_ + step) % nodes_;
      rail_.emplace_back(channel_, "all_gather");
      if (step > 0) {
        rail_.back().receive(from * local_ + place_, block(from, place_));
        rail_sends_.send(to * local_ + place_, block(node_, place_));
      }
      for (int other = 1; other < local_; ++other) {
        const int place = (place_ + other) % local_;
        near_.receive(node_ * local_ + place, block(from, place));
      }
    }
  }

  void pass_on(int step) {
    for (int other = 1; other < local_; ++other)
      near_.send(node_ * local_ + (place_ + other) % local_, block(node_before(step), place_));
  }

  Channel channel_;
  std::span<std::byte> data_;
  std::vector<int64_t> bytes_, starts_;
  Transfers near_, rail_sends_;
  std::vector<Transfers> rail_;  // by distance of the node: what comes from there
  int local_ = 1, nodes_ = 1, node_ = 0, place_ = 0;
  int passed_on_ = 0;
  bool started_ = false;
};

}  // namespace

OperationPtr all_gather(const Channel& channel, const AllGather& blocks) {
  return std::make_unique<AllGatherOperation>(channel, blocks);
}

}  // namespace strait
