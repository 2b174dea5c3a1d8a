// parallel/sim/fair_share.h: how flows share links: max-min fair in their speed, by progressive
// filling.
//
// A flow at speed x in [0, 1] takes x * load of each link it uses; every link has capacity 1. All
// flows rise together from 0 until a link is full, which stops the flows that use it, or they reach
// 1; the others rise on. Not thread-safe. Reused from one moment to the next, so that nothing is
// allocated.
#pragma once

#include <cstddef>
#include <vector>

namespace strait {

class FairShare {
 public:
  void reset(int num_links);             // forgets all flows; links 0 .. num_links - 1 are empty
  int add_flow();                        // numbers count from 0
  void add_load(int link, double load);  // of the flow added last. REQUIRES: load in [0, 1]
  // Sets the speeds of the flows added since the last call. They share what the flows before them
  // leave: those have priority. Cost: loads x links that fill up.
  void fill();
  double speed(int flow) const { return speed_[static_cast<size_t>(flow)]; }

 private:
  struct Load {
    size_t flow, link;
    double load;
  };
  bool stop_at_next_full_link();

  std::vector<Load> loads_;
  std::vector<double> speed_;               // per flow; negative: it rises
  std::vector<double> left_;                // per link: what flows of earlier calls leave
  std::vector<double> free_;                // per link: left_ less the stopped flows of this call
  std::vector<double> rising_;              // per link: summed load of the flows that rise
  size_t first_flow_ = 0, first_load_ = 0;  // of those added since the last call
};

}  // namespace strait
