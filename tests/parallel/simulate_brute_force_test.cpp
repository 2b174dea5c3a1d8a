// The simulator against the simplest event simulation there is: at every event all heads of lanes
// are looked for anew and all speeds are found anew over all positions; nothing is kept but what
// each task has left. Thousands of random small programs must get equal times.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <set>

#include "parallel/sim/simulate.h"

namespace strait {
namespace {

enum class State { idle, latency, moving, done };

struct Piece {  // one member's task
  int position = 0, index = 0;
  const Task* task = nullptr;
  TaskCost cost;
};

struct Job {  // a task with all its members
  std::vector<Piece> members;
  State state = State::idle;
  double left = 0;  // seconds of latency or of progress
  double longest = 0;
  double speed = 0;
};

class BruteForce {
 public:
  BruteForce(const std::vector<Program>& programs, const std::vector<std::vector<TaskCost>>& costs,
             std::vector<std::vector<std::pair<int, int>>> members) {
    for (const auto& places : members) {
      Job job;
      for (const auto& [p, i] : places) {
        const size_t position = static_cast<size_t>(p), index = static_cast<size_t>(i);
        job.members.push_back({p, i, &programs[position].tasks[index], costs[position][index]});
        job.longest = std::max(job.longest, costs[position][index].seconds);
      }
      jobs_.push_back(job);
    }
    for (const Program& program : programs) times_.emplace_back(program.tasks.size());
  }

  std::vector<std::vector<TaskTime>> run() {
    for (;;) {
      start_all_that_can();
      find_speeds();
      double step = std::numeric_limits<double>::infinity();
      for (const Job& job : jobs_) step = std::min(step, time_left(job));
      if (step == std::numeric_limits<double>::infinity()) return times_;
      now_ += step;
      for (Job& job : jobs_) {
        const double left = time_left(job);
        if (left == step)
          advance(job);
        else if (left < std::numeric_limits<double>::infinity())
          job.left -= step * rate(job);
      }
    }
  }
  size_t num_unfinished() const {
    return static_cast<size_t>(std::count_if(jobs_.begin(), jobs_.end(),
                                             [](const Job& j) { return j.state != State::done; }));
  }

 private:
  static double rate(const Job& job) { return job.state == State::latency ? 1 : job.speed; }
  double time_left(const Job& job) const {
    constexpr double kNever = std::numeric_limits<double>::infinity();
    if (job.state == State::latency) return job.left;
    if (job.state != State::moving) return kNever;
    if (job.left <= 1e-12 * (job.longest + now_)) return 0;  // done but for rounding
    return job.speed > 0 ? job.left / job.speed : kNever;
  }
  void set(Job& job, State state) {
    job.state = state;
    for (const Piece& piece : job.members) {
      TaskTime& time =
          times_[static_cast<size_t>(piece.position)][static_cast<size_t>(piece.index)];
      if (state == State::latency) time.start = now_;
      if (state == State::done) time.end = now_;
    }
  }
  void advance(Job& job) {
    if (job.state == State::latency) {
      set(job, State::moving);
      job.left = job.longest;
      if (job.left > 0) return;
    }
    set(job, State::done);
  }
  bool is_done(int position, int index) const {
    for (const Job& job : jobs_)
      for (const Piece& piece : job.members)
        if (piece.position == position && piece.index == index) return job.state == State::done;
    ADD_FAILURE() << "no such task";
    return false;
  }
  bool can_start(const Job& job) const {
    for (const Piece& piece : job.members) {
      for (const int earlier : piece.task->after)
        if (!is_done(piece.position, earlier)) return false;
      for (const Job& other : jobs_)
        for (const Piece& before : other.members)
          if (before.position == piece.position && before.task->lane == piece.task->lane &&
              before.index < piece.index && other.state != State::done)
            return false;
    }
    return true;
  }
  void start_all_that_can() {
    for (bool again = true; again;) {
      again = false;
      for (Job& job : jobs_) {
        if (job.state != State::idle || !can_start(job)) continue;
        set(job, State::latency);
        job.left = 0;
        for (const Piece& piece : job.members)
          job.left = std::max(job.left, piece.cost.latency_seconds);
        if (job.left == 0) advance(job);
        again = true;
      }
    }
  }
  static double load(const Job& job, const Piece& piece, int link) {
    return piece.cost.share[static_cast<size_t>(link)] * piece.cost.seconds / job.longest;
  }
  // Fills one link after the other: the one that is full at the lowest speed comes next.
  void find_speeds() {
    std::map<std::pair<int, int>, double> capacity;  // (position, link)
    for (const bool transfers : {true, false}) {
      std::set<Job*> rising;
      for (Job& job : jobs_)
        if (job.state == State::moving && is_transfer(job.members[0].task->lane) == transfers)
          rising.insert(&job);
      while (!rising.empty()) {
        std::map<std::pair<int, int>, double> loads;
        for (const Job* job : rising)
          for (const Piece& piece : job->members)
            for (int link = 0; link < kNumLinks; ++link)
              if (load(*job, piece, link) > 0)
                loads[{piece.position, link}] += load(*job, piece, link);
        double level = 1;
        std::pair<int, int> fullest{-1, -1};
        for (const auto& [place, sum] : loads) {
          const double free = std::max(0.0, capacity.try_emplace(place, 1.0).first->second);
          const double full_at = free < 1e-12 ? 0 : free / sum;
          if (full_at < level) level = full_at, fullest = place;
        }
        std::set<Job*> stopped;
        for (Job* job : rising) {
          bool stops = fullest.first < 0;
          for (const Piece& piece : job->members)
            if (piece.position == fullest.first && load(*job, piece, fullest.second) > 0)
              stops = true;
          if (stops) stopped.insert(job);
        }
        for (Job* job : stopped) {
          job->speed = level;
          rising.erase(job);
          for (const Piece& piece : job->members)
            for (int link = 0; link < kNumLinks; ++link)
              if (load(*job, piece, link) > 0)
                capacity[{piece.position, link}] -= level * load(*job, piece, link);
        }
      }
    }
  }

  std::vector<Job> jobs_;
  std::vector<std::vector<TaskTime>> times_;
  double now_ = 0;
};

struct RandomStep {
  std::vector<Program> programs;
  std::vector<std::vector<TaskCost>> costs;
  std::vector<std::vector<std::pair<int, int>>> members;  // [job]: (position, task)
};

// Jobs are added one after the other to the programs of all their members, so they can all end in
// that order.
class RandomSteps {
 public:
  explicit RandomSteps(uint32_t seed) : random_(seed) {}

  RandomStep next() {
    RandomStep step;
    const int num_positions = 1 + below(4), num_jobs = 3 + below(28);
    // Round figures make many events fall together, others none.
    round_ = below(2) == 0;
    for (int p = 0; p < num_positions; ++p)
      step.programs.push_back({.tasks = {}, .num_microbatches = 1, .position = p});
    step.costs.resize(step.programs.size());
    for (int job = 0; job < num_jobs; ++job) add_job(step, job);
    return step;
  }

 private:
  int below(int end) { return static_cast<int>(random_() % static_cast<unsigned>(end)); }
  double real() { return std::uniform_real_distribution<>(0, 1)(random_); }

  void add_job(RandomStep& step, int job) {
    std::vector<int> positions(step.programs.size());
    for (size_t p = 0; p < positions.size(); ++p) positions[p] = static_cast<int>(p);
    std::shuffle(positions.begin(), positions.end(), random_);
    const size_t most = below(3) ? 1 : positions.size();
    positions.resize(1 + static_cast<size_t>(below(static_cast<int>(most))));
    const bool is_message = positions.size() == 2 && below(2), is_swap = below(2);
    const Lane lane = is_message ? Lane::pipe : static_cast<Lane>(below(kNumLanes));
    const Message one{.microbatch = job, .layer = 1, .rows = 1},
        two{.microbatch = job, .layer = 2, .rows = 1};
    step.members.emplace_back();
    for (size_t m = 0; m < positions.size(); ++m) {
      Task task{.kind = Kind::reduce_gradients, .lane = lane};
      if (is_message) {
        task.kind = is_swap ? Kind::swap : m == 0 ? Kind::send : Kind::receive;
        if (is_swap || m == 0) task.send = m == 0 ? one : two;
        if (is_swap || m == 1) task.receive = m == 0 ? two : one;
      }
      for (const int other : positions)
        if (other != positions[m]) task.positions.push_back(other);
      const size_t p = static_cast<size_t>(positions[m]);
      const int index = static_cast<int>(step.programs[p].tasks.size());
      for (int edges = index > 0 ? below(3) : 0; edges > 0; --edges)
        task.after.push_back(below(index));
      step.programs[p].tasks.push_back(task);
      step.costs[p].push_back(random_cost());
      step.members.back().emplace_back(positions[m], index);
    }
  }
  TaskCost random_cost() {
    const auto time = [&] { return round_ ? 0.25 * below(5) : real(); };
    TaskCost cost{.latency_seconds = below(3) ? 0 : time(), .seconds = below(8) ? time() : 0};
    const double kShares[] = {0, 0, 0.15, 0.25, 0.5, 1};
    for (double& share : cost.share) share = round_ || below(2) ? kShares[below(6)] : real();
    return cost;
  }

  std::mt19937 random_;
  bool round_ = false;
};

TEST(SimulateBruteForce, RandomProgramsTakeEqualTimes) {
  RandomSteps steps(3);
  size_t num_tasks = 0, num_slowed = 0, num_of_several = 0;
  for (int trial = 0; trial < 4000; ++trial) {
    const RandomStep step = steps.next();
    BruteForce brute(step.programs, step.costs, step.members);
    const auto expected = brute.run();
    ASSERT_EQ(brute.num_unfinished(), 0u);
    const Simulation got = simulate(step.programs, step.costs);
    double makespan = 0;
    for (size_t p = 0; p < expected.size(); ++p) {
      ASSERT_EQ(got.times[p].size(), expected[p].size());
      for (size_t i = 0; i < expected[p].size(); ++i) {
        const TaskTime &a = got.times[p][i], &b = expected[p][i];
        makespan = std::max(makespan, b.end);
        ASSERT_NEAR(a.start, b.start, 1e-9 * std::max(b.start, 1e-3))
            << "trial " << trial << ' ' << p << ' ' << i;
        ASSERT_NEAR(a.end, b.end, 1e-9 * std::max(b.end, 1e-3))
            << "trial " << trial << ' ' << p << ' ' << i;
        const TaskCost& cost = step.costs[p][i];
        const bool is_alone = step.programs[p].tasks[i].positions.empty();
        ++num_tasks;
        num_of_several += !is_alone;
        num_slowed += is_alone && b.end - b.start > (cost.latency_seconds + cost.seconds) * 1.001;
      }
    }
    ASSERT_NEAR(got.makespan, makespan, 1e-9 * makespan);
  }
  // The programs do what the test is about.
  EXPECT_GT(num_tasks, 50000u);
  EXPECT_GT(num_slowed, 10000u);
  EXPECT_GT(num_of_several, 10000u);
}

TEST(SimulateBruteForce, TheSameInputGivesTheSameBits) {
  RandomSteps steps(4);
  for (int trial = 0; trial < 100; ++trial) {
    const RandomStep step = steps.next();
    const Simulation a = simulate(step.programs, step.costs),
                     b = simulate(step.programs, step.costs);
    for (size_t p = 0; p < a.times.size(); ++p)
      for (size_t i = 0; i < a.times[p].size(); ++i)
        ASSERT_EQ(a.times[p][i].end, b.times[p][i].end);
  }
}

}  // namespace
}  // namespace strait
