// tests/parallel/brute_force_simulation.h: the simplest event simulation there is. At every event
// all heads of lanes are looked for anew and all speeds are found anew over all positions; nothing
// is kept but what each task has left. Cost: cubic in the tasks.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "parallel/sim/simulate.h"

namespace strait {

enum class JobState { idle, latency, moving, done };

struct Piece {  // one member's task
  int position = 0, index = 0;
  const Task* task = nullptr;
  TaskCost cost;
};

struct Job {  // a task with all its members
  std::vector<Piece> members;
  JobState state = JobState::idle;
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
        job_of_[{p, i}] = jobs_.size();
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
    return static_cast<size_t>(std::count_if(
        jobs_.begin(), jobs_.end(), [](const Job& j) { return j.state != JobState::done; }));
  }

 private:
  static double rate(const Job& job) { return job.state == JobState::latency ? 1 : job.speed; }
  double time_left(const Job& job) const {
    constexpr double kNever = std::numeric_limits<double>::infinity();
    if (job.state == JobState::latency) return job.left;
    if (job.state != JobState::moving) return kNever;
    if (job.left <= 1e-12 * (job.longest + now_)) return 0;  // done but for rounding
    return job.speed > 0 ? job.left / job.speed : kNever;
  }
  void set(Job& job, JobState state) {
    job.state = state;
    for (const Piece& piece : job.members) {
      TaskTime& time =
          times_[static_cast<size_t>(piece.position)][static_cast<size_t>(piece.index)];
      if (state == JobState::latency) time.start = now_;
      if (state == JobState::done) time.end = now_;
    }
  }
  void advance(Job& job) {
    if (job.state == JobState::latency) {
      set(job, JobState::moving);
      job.left = job.longest;
      if (job.left > 0) return;
    }
    set(job, JobState::done);
  }
  bool is_done(int position, int index) const {
    return jobs_[job_of_.at({position, index})].state == JobState::done;
  }
  bool can_start(const Job& job) const {
    for (const Piece& piece : job.members) {
      for (const int earlier : piece.task->after)
        if (!is_done(piece.position, earlier)) return false;
      for (int before = 0; before < piece.index; ++before)
        if ((piece.task - piece.index + before)->lane == piece.task->lane &&
            !is_done(piece.position, before))
          return false;
    }
    return true;
  }
  void start_all_that_can() {
    for (bool again = true; again;) {
      again = false;
      for (Job& job : jobs_) {
        if (job.state != JobState::idle || !can_start(job)) continue;
        set(job, JobState::latency);
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
        if (job.state == JobState::moving && is_transfer(job.members[0].task->lane) == transfers)
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
  std::map<std::pair<int, int>, size_t> job_of_;  // (position, task)
  std::vector<std::vector<TaskTime>> times_;
  double now_ = 0;
};

// Round figures make many events fall together, others none.
inline TaskCost random_cost(std::mt19937& random, bool round) {
  const auto below = [&](int end) {
    return static_cast<int>(random() % static_cast<unsigned>(end));
  };
  const auto real = [&] { return std::uniform_real_distribution<>(0, 1)(random); };
  const auto time = [&] { return round ? 0.25 * below(5) : real(); };
  TaskCost cost{.latency_seconds = below(3) ? 0 : time(), .seconds = below(8) ? time() : 0};
  const double kShares[] = {0, 0, 0.15, 0.25, 0.5, 1};
  for (double& share : cost.share) share = round || below(2) ? kShares[below(6)] : real();
  return cost;
}

// Within 1e-9 relative.
inline void expect_equal_times(const std::vector<std::vector<TaskTime>>& got,
                               const std::vector<std::vector<TaskTime>>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t p = 0; p < expected.size(); ++p) {
    ASSERT_EQ(got[p].size(), expected[p].size());
    for (size_t i = 0; i < expected[p].size(); ++i) {
      const TaskTime &a = got[p][i], &b = expected[p][i];
      ASSERT_NEAR(a.start, b.start, 1e-9 * std::max(b.start, 1e-3))
          << "position " << p << " task " << i;
      ASSERT_NEAR(a.end, b.end, 1e-9 * std::max(b.end, 1e-3)) << "position " << p << " task " << i;
    }
  }
}

}  // namespace strait
