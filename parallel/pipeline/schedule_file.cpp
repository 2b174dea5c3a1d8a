#include "parallel/pipeline/schedule_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "core/errors.h"
#include "parallel/pipeline/find_problem.h"

namespace strait {
namespace {

constexpr int kMostCount = 1 << 20;  // of anything; more is a slip of the pen

std::vector<std::string_view> words_of(std::string_view line) {
  constexpr std::string_view kSpace = " \t\r";
  std::vector<std::string_view> words;
  for (size_t begin = line.find_first_not_of(kSpace); begin != line.npos;) {
    const size_t end = std::min(line.find_first_of(kSpace, begin), line.size());
    words.push_back(line.substr(begin, end - begin));
    begin = line.find_first_not_of(kSpace, end);
  }
  return words;
}

// A word as messages show it.
std::string shown(std::string_view word) {
  constexpr size_t kMost = 40;
  return word.size() <= kMost ? std::string(word) : fmt::format("{}...", word.substr(0, kMost));
}

std::optional<int> number_of(std::string_view word) {
  int value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size() || value < 0 || value > kMostCount)
    return std::nullopt;
  return value;
}

std::optional<std::pair<int, int>> dotted_numbers_of(std::string_view word) {
  const size_t dot = word.find('.');
  if (dot == word.npos) return std::nullopt;
  const std::optional<int> first = number_of(word.substr(0, dot)),
                           second = number_of(word.substr(dot + 1));
  if (!first || !second) return std::nullopt;
  return std::pair{*first, *second};
}

std::optional<Slot> slot_of(std::string_view word) {
  if (word.empty()) return std::nullopt;
  for (Work work : {Work::forward, Work::backward, Work::input_gradient, Work::weight_gradient}) {
    if (word.substr(0, 1) != name_of(work)) continue;
    const auto numbers = dotted_numbers_of(word.substr(1));
    if (!numbers) return std::nullopt;
    return Slot{work, numbers->first, numbers->second};
  }
  return std::nullopt;
}

// One line's worth of a position, and where it was.
template <class T>
struct Listed {
  std::vector<T> entries;
  int line = 0;
};

class Reader {
 public:
  explicit Reader(const std::string& file) : file_(file) {}

  void read_line(std::string_view line) {
    ++line_;
    line = line.substr(0, line.find('#'));
    for (const char c : line)
      if (c != '\t' && c != '\r' && (c < ' ' || c > '~'))
        fail(line_, fmt::format("byte 0x{:02x} is no text of a schedule; only comments take any",
                                static_cast<unsigned char>(c)));
    const std::vector<std::string_view> words = words_of(line);
    if (words.empty()) return;
    if (words[0] == "position")
      read_position(words);
    else
      read_header(words);
  }

  Schedule finish() {
    if (schedule_.name.empty()) fail(line_, "there is no line 'schedule NAME'");
    if (schedule_.num_microbatches == 0) fail(line_, "there is no line 'micro-batches N'");
    if (holds_.empty()) fail(line_, "there is no line 'position 0 holds ...'");
    require_all(holds_, "holds");
    require_all(runs_, "runs");
    require_few_passes();
    for (auto& [position, held] : holds_) {
      for (const Chunk& chunk : held.entries)
        schedule_.num_stages = std::max(schedule_.num_stages, chunk.stage + 1);
      schedule_.chunks.push_back(std::move(held.entries));
    }
    for (auto& [position, slots] : runs_) schedule_.slots.push_back(std::move(slots.entries));
    if (const auto problem = find_problem(schedule_))
      fail(line_of(*problem), to_string(*problem, schedule_));
    return std::move(schedule_);
  }

 private:
  [[noreturn]] void fail(int line, const std::string& why) const {
    throw RecipeError(fmt::format("{}:{}: {}", file_, line, why));
  }

  void read_header(const std::vector<std::string_view>& words) {
    const std::string key(words[0]);
    if (key != "schedule" && key != "micro-batches" && key != "copies")
      fail(line_,
           fmt::format("'{}' begins no line; schedule, micro-batches, copies and position do",
                       shown(key)));
    if (words.size() != 2) fail(line_, fmt::format("'{}' takes one word", key));
    if (const int before = std::exchange(headers_[key], line_); before != 0)
      fail(line_, fmt::format("'{}' comes a second time; the first is line {}", key, before));
    if (key == "schedule") {
      schedule_.name = words[1];
      return;
    }
    const std::optional<int> count = number_of(words[1]);
    if (!count || *count == 0)
      fail(line_, fmt::format("'{}' takes a number from 1 to {}, not '{}'", key, kMostCount,
                              shown(words[1])));
    (key == "copies" ? schedule_.num_copies : schedule_.num_microbatches) = *count;
  }

  void read_position(const std::vector<std::string_view>& words) {
    const std::optional<int> position = words.size() > 2 ? number_of(words[1]) : std::nullopt;
    if (!position || (words[2] != "holds" && words[2] != "runs"))
      fail(line_, "a position reads like 'position 0 holds 0.0' or 'position 0 runs F0.0 B0.0'");
    if (words[2] == "holds")
      for (size_t word = 3; word < words.size(); ++word)
        list(holds_, *position, word == 3).push_back(chunk_of(words[word]));
    else
      for (size_t word = 3; word < words.size(); ++word)
        read_slots(words[word], list(runs_, *position, word == 3));
    if (words.size() == 3) fail(line_, fmt::format("position {} {} nothing", *position, words[2]));
  }

  template <class T>
  std::vector<T>& list(std::map<int, Listed<T>>& lists, int position, bool is_new) {
    Listed<T>& listed = lists[position];
    if (is_new && listed.line != 0)
      fail(line_,
           fmt::format("position {} has such a line already, line {}", position, listed.line));
    listed.line = line_;
    return listed.entries;
  }

  Chunk chunk_of(std::string_view word) const {
    if (const std::optional<int> stage = number_of(word)) return {.stage = *stage};
    const auto numbers = dotted_numbers_of(word);
    if (!numbers)
      fail(line_,
           fmt::format("'{}' is no chunk; those read like 3 or 3.1: stage.copy", shown(word)));
    return {.stage = numbers->first, .copy = numbers->second};
  }

  // "F1.0", or "F1.0&B0.1".
  void read_slots(std::string_view word, std::vector<Slot>& slots) const {
    for (std::string_view rest = word;;) {
      const size_t length = std::min(rest.find('&'), rest.size());
      std::optional<Slot> slot = slot_of(rest.substr(0, length));
      if (!slot)
        fail(line_, fmt::format("'{}' is no slot; those read like F0.0, B0.0, I0.0, W0.0 "
                                "(micro-batch.chunk) or F1.0&B0.0",
                                shown(word)));
      slot->paired = length < rest.size();
      slots.push_back(*slot);
      if (!slot->paired) return;
      rest.remove_prefix(length + 1);
    }
  }

  template <class T>
  void require_all(const std::map<int, Listed<T>>& lists, const char* what) const {
    const int num_positions =
        1 + std::max(holds_.rbegin()->first, runs_.empty() ? 0 : runs_.rbegin()->first);
    for (int position = 0; position < num_positions; ++position)
      if (!lists.contains(position))
        fail(line_, fmt::format("there is no line 'position {} {} ...'; there are {} positions",
                                position, what, num_positions));
  }

  // Before anything is allocated for them.
  void require_few_passes() const {
    int64_t chunks = 0;
    for (const auto& [position, held] : holds_) chunks += std::ssize(held.entries);
    if (chunks * schedule_.num_microbatches > kMostPasses)
      fail(headers_.at("micro-batches"),
           fmt::format("{} micro-batches through {} chunks are more than {} passes; at most {}",
                       schedule_.num_microbatches, chunks, kMostPasses, kMostPasses / chunks));
  }

  int line_of(const ScheduleProblem& problem) const {
    if (problem.position < 0) return line_;
    return problem.of_chunks ? holds_.at(problem.position).line : runs_.at(problem.position).line;
  }

  const std::string& file_;
  int line_ = 0;
  Schedule schedule_{};
  std::map<std::string, int> headers_;  // line of each
  std::map<int, Listed<Chunk>> holds_;
  std::map<int, Listed<Slot>> runs_;
};

}  // namespace

std::string schedule_text(const Schedule& schedule) {
  std::string text =
      fmt::format("schedule {}\nmicro-batches {}\n", schedule.name, schedule.num_microbatches);
  if (schedule.num_copies > 1) text += fmt::format("copies {}\n", schedule.num_copies);
  for (int position = 0; position < schedule.num_positions(); ++position) {
    text += fmt::format("position {} holds", position);
    for (const Chunk& chunk : schedule.chunks[position])
      text += fmt::format(" {}.{}", chunk.stage, chunk.copy);
    text += '\n';
  }
  for (int position = 0; position < schedule.num_positions(); ++position) {
    text += fmt::format("position {} runs", position);
    bool in_pair = false;
    for (const Slot& slot : schedule.slots[position]) {
      text += (in_pair ? "&" : " ") + to_string(slot);
      in_pair = slot.paired;
    }
    text += '\n';
  }
  return text;
}

Schedule parse_schedule(std::string_view text, const std::string& file) {
  Reader reader(file);
  while (!text.empty()) {
    const size_t length = std::min(text.find('\n'), text.size());
    reader.read_line(text.substr(0, length));
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return reader.finish();
}

Schedule read_schedule(const std::string& path) {
  const auto fail = [&](const std::string& why) {
    throw RecipeError(fmt::format("{}: this schedule {}", path, why));
  };
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) fail("is a folder, not a file");
  std::ifstream in(path, std::ios::binary);
  if (!in) fail(fmt::format("cannot be read: {}", std::strerror(errno)));
  std::ostringstream text;
  if (in.peek() == std::ifstream::traits_type::eof()) fail("is empty");
  if (!(text << in.rdbuf())) fail("cannot be read to its end");
  return parse_schedule(text.view(), path);
}

Schedule read_schedule(const std::string& path, const ScheduleOptions& options) {
  Schedule schedule = read_schedule(path);
  const auto require = [&](const char* key, int wanted, int has, const char* what) {
    if (wanted != 0 && wanted != has)
      throw RecipeError(
          fmt::format("{} = {}: the schedule in {} is for {} {}; the nearest that works: {}", key,
                      wanted, path, has, what, has));
  };
  require(options.positions_key, options.positions, schedule.num_positions(), "positions");
  require(options.microbatches_key, options.microbatches, schedule.num_microbatches,
          "micro-batches");
  for (const std::vector<Chunk>& held : schedule.chunks)
    require(options.chunks_key, options.chunks, static_cast<int>(held.size()), "chunks a position");
  return schedule;
}

bool is_file_schedule(std::string_view name) { return name.starts_with(kFileSchedule); }

Schedule find_schedule(std::string_view name, const ScheduleOptions& options) {
  if (!is_file_schedule(name)) return make_schedule(name, options);
  return read_schedule(std::string(name.substr(kFileSchedule.size())), options);
}

void require_found_schedule(std::string_view name, const ScheduleOptions& options) {
  if (is_file_schedule(name))
    find_schedule(name, options);
  else
    require_schedule(name, options);
}

}  // namespace strait
