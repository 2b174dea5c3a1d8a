#include "parallel/program/rendezvous.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

namespace strait {
namespace {

class Matching {
 public:
  Matching(std::span<const Program> programs, std::span<const std::vector<BucketShape>> buckets)
      : programs_(programs), buckets_(buckets) {
    for (const Program& program : programs) {
      std::vector<int>& events = result_.event.emplace_back(program.tasks.size());
      for (int& event : events) event = result_.num_events++;
      matched_.emplace_back(program.tasks.size(), 0);
    }
  }

  Rendezvous run() {
    collect();
    for (const auto& [ends, channel] : channels_) match_channel(ends.first, ends.second, channel);
    for (const auto& [key, sequences] : groups_) match_group(key.second, sequences);
    return std::move(result_);
  }

 private:
  struct Channel {
    std::vector<int> sends, receives;  // tasks of the one end, and of the other
  };
  using GroupKey = std::pair<Lane, std::vector<int>>;  // members in order

  const Task& task(int position, int index) const {
    return programs_[static_cast<size_t>(position)].tasks[static_cast<size_t>(index)];
  }
  int& event(int position, int index) {
    return result_.event[static_cast<size_t>(position)][static_cast<size_t>(index)];
  }
  void problem(int position, int index, const std::string& text) {
    result_.problems.push_back({position, index, fmt::format("[position {}] {}", position, text)});
  }

  void collect() {
    const auto num_positions = static_cast<int>(programs_.size());
    for (int position = 0; position < num_positions; ++position) {
      const std::vector<Task>& tasks = programs_[static_cast<size_t>(position)].tasks;
      for (int index = 0; index < static_cast<int>(tasks.size()); ++index) {
        const Task& t = tasks[static_cast<size_t>(index)];
        const bool exist = std::all_of(t.positions.begin(), t.positions.end(), [&](int other) {
          return other >= 0 && other < num_positions && other != position;
        });
        if (t.positions.empty() || !exist) continue;
        if (is_message(t.kind)) {
          const int peer = t.positions.front();
          if (t.kind != Kind::receive) channels_[{position, peer}].sends.push_back(index);
          if (t.kind != Kind::send) channels_[{peer, position}].receives.push_back(index);
        } else {
          std::vector<int> members = t.positions;
          members.push_back(position);
          std::sort(members.begin(), members.end());
          groups_[{t.lane, std::move(members)}][position].push_back(index);
        }
      }
    }
  }

  void match_channel(int from, int to, const Channel& channel) {
    const size_t count = std::min(channel.sends.size(), channel.receives.size());
    for (size_t index = 0; index < count; ++index) {
      const int sender = channel.sends[index], receiver = channel.receives[index];
      const Task& s = task(from, sender);
      const Task& r = task(to, receiver);
      const auto complain = [&](const std::string& how) {
        problem(to, receiver,
                fmt::format("{} {} {} of position {}", to_string(r), how, to_string(s), from));
      };
      if (s.send.pass != r.receive.pass || s.send.microbatch != r.receive.microbatch ||
          s.send.layer != r.receive.layer)
        return complain("meets");
      if (s.send.rows != r.receive.rows)
        return complain(fmt::format("expects {} rows, not the {} of", r.receive.rows, s.send.rows));
      if ((s.kind == Kind::swap) != (r.kind == Kind::swap)) return complain("cannot be matched by");
      // The other direction of a swap must meet the same task.
      if (event(to, receiver) != event(from, sender) && !join(from, sender, to, receiver))
        return complain("is half of a swap, and not with");
    }
    if (channel.sends.size() > count)
      problem(from, channel.sends[count],
              fmt::format("{} has no receive at position {}",
                          to_string(task(from, channel.sends[count])), to));
    if (channel.receives.size() > count)
      problem(to, channel.receives[count],
              fmt::format("{} has no send at position {}",
                          to_string(task(to, channel.receives[count])), from));
  }

  // False when one of the two is matched already.
  bool join(int from, int sender, int to, int receiver) {
    uint8_t& mine = matched_[static_cast<size_t>(from)][static_cast<size_t>(sender)];
    uint8_t& theirs = matched_[static_cast<size_t>(to)][static_cast<size_t>(receiver)];
    if (mine || theirs) return false;
    mine = theirs = 1;
    event(to, receiver) = event(from, sender);
    return true;
  }

  std::string name_of_collective(int position, int index) const {
    const Task& t = task(position, index);
    const std::vector<BucketShape>& buckets = buckets_[static_cast<size_t>(position)];
    const bool has_bucket = t.bucket >= 0 && t.bucket < static_cast<int>(buckets.size());
    if (!has_bucket) return to_string(t);
    return fmt::format("{} of '{}'", name_of(t.kind), buckets[static_cast<size_t>(t.bucket)].name);
  }

  void match_group(const std::vector<int>& members,
                   const std::map<int, std::vector<int>>& sequences) {
    const int first = sequences.begin()->first;
    const std::vector<int>& model = sequences.begin()->second;
    for (const int member : members) {
      if (member == first) continue;
      const auto found = sequences.find(member);
      const std::vector<int> none;
      const std::vector<int>& sequence = found == sequences.end() ? none : found->second;
      const size_t count = std::min(model.size(), sequence.size());
      for (size_t index = 0; index < count; ++index) {
        const std::string name = name_of_collective(member, sequence[index]);
        const std::string expected = name_of_collective(first, model[index]);
        if (name != expected)
          return problem(member, sequence[index],
                         fmt::format("{} meets {} of position {}", name, expected, first));
        event(member, sequence[index]) = event(first, model[index]);
      }
      if (model.size() > count)
        return problem(first, model[count],
                       fmt::format("{} waits for position {}, which never joins",
                                   name_of_collective(first, model[count]), member));
      if (sequence.size() > count)
        return problem(member, sequence[count],
                       fmt::format("{} waits for position {}, which never joins",
                                   name_of_collective(member, sequence[count]), first));
    }
  }

  std::span<const Program> programs_;
  std::span<const std::vector<BucketShape>> buckets_;
  Rendezvous result_;
  std::map<std::pair<int, int>, Channel> channels_;             // [from, to]
  std::map<GroupKey, std::map<int, std::vector<int>>> groups_;  // [lane, members][position]
  std::vector<std::vector<uint8_t>> matched_;  // [position][task]: to the other end of a message
};

}  // namespace

bool is_message(Kind kind) {
  return kind == Kind::send || kind == Kind::receive || kind == Kind::swap;
}

Rendezvous match_tasks(std::span<const Program> programs,
                       std::span<const std::vector<BucketShape>> buckets) {
  return Matching(programs, buckets).run();
}

}  // namespace strait
