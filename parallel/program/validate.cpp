#include "parallel/program/validate.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/errors.h"
#include "parallel/program/happens_before.h"
#include "parallel/program/rendezvous.h"
#include "parallel/program/step_work.h"

namespace strait {
namespace {

class Validation {
 public:
  Validation(const StepShape& shape, const Schedule& schedule, std::span<const Program> programs,
             bool with_boundary)
      : shape_(shape), schedule_(schedule), programs_(programs), with_boundary_(with_boundary) {}

  std::vector<Problem> run() {
    if (!fits()) return std::move(problems_);
    for (position_ = 0; position_ < schedule_.num_positions(); ++position_) {
      const StepWork work(shape_, schedule_, position_, with_boundary_);
      check_program(work);
    }
    check_together();
    return std::move(problems_);
  }

 private:
  const Program& program() const { return programs_[static_cast<size_t>(position_)]; }
  const Task& task(int index) const { return program().tasks[static_cast<size_t>(index)]; }
  void problem(int index, const std::string& text) {
    problems_.push_back({position_, index, fmt::format("[position {}] {}", position_, text)});
  }

  bool fits();
  void check_program(const StepWork& work);
  bool check_edges();
  std::vector<int> check_work(const StepWork& work);
  void check_piece(const StepWork& work, int index, const Piece& piece, std::vector<int>& task_of);
  void check_looks(int index, const Task& expected);
  void check_order(const StepWork& work, const std::vector<int>& task_of);
  void check_together();

  const StepShape& shape_;
  const Schedule& schedule_;
  std::span<const Program> programs_;
  const bool with_boundary_;
  int position_ = 0;
  bool edges_point_back_ = true;
  std::vector<Problem> problems_;
  std::vector<Requirement> doubtful_;  // not brought about by the position itself
};

// The pieces of work that a task does: a swap does two.
std::vector<Piece> pieces_of(const Task& task) {
  const auto end_of = [](Kind kind, const Message& m) {
    return Piece{.kind = kind, .pass = m.pass, .microbatch = m.microbatch, .layer = m.layer};
  };
  switch (task.kind) {
    case Kind::send:
      return {end_of(Kind::send, task.send)};
    case Kind::receive:
      return {end_of(Kind::receive, task.receive)};
    case Kind::swap:
      return {end_of(Kind::send, task.send), end_of(Kind::receive, task.receive)};
    default:
      break;
  }
  return {{.kind = task.kind,
           .pass = task.pass,
           .microbatch = task.microbatch,
           .layer = task.layer,
           .bucket = task.bucket,
           .part = task.part}};
}

bool Validation::fits() {
  const auto num_positions = static_cast<size_t>(schedule_.num_positions());
  STRAIT_CHECK(shape_.stages.size() == static_cast<size_t>(schedule_.num_stages) &&
                   shape_.buckets.size() == num_positions,
               "the shape belongs to another schedule");
  if (programs_.size() != num_positions) {
    const std::string text = fmt::format("{} programs for the {} positions of {}", programs_.size(),
                                         num_positions, schedule_.name);
    problems_.push_back({0, -1, text});
    return false;
  }
  for (position_ = 0; position_ < schedule_.num_positions(); ++position_) {
    if (program().position != position_)
      problem(-1, fmt::format("holds the program of position {}", program().position));
    if (program().num_microbatches != schedule_.num_microbatches)
      problem(-1, fmt::format("its program is for {} micro-batches, not for {}",
                              program().num_microbatches, schedule_.num_microbatches));
  }
  return problems_.empty();
}

void Validation::check_program(const StepWork& work) {
  const std::vector<int> task_of = check_work(work);
  if (check_edges()) check_order(work, task_of);
}

// One thread issues a program in the order of its list: what it waits for has been issued before.
bool Validation::check_edges() {
  const size_t before = problems_.size();
  for (int index = 0; index < static_cast<int>(program().tasks.size()); ++index)
    for (const int after : task(index).after)
      if (after < 0 || after >= index)
        problem(index, fmt::format("{} (task {}) is after task {}, which is not an earlier one",
                                   to_string(task(index)), index, after));
  if (problems_.size() == before) return true;
  return edges_point_back_ = false;
}

// The task of each piece; -1: none.
std::vector<int> Validation::check_work(const StepWork& work) {
  std::vector<int> task_of(static_cast<size_t>(work.num_numbers()), -1);
  for (int index = 0; index < static_cast<int>(program().tasks.size()); ++index)
    for (const Piece& piece : pieces_of(task(index))) check_piece(work, index, piece, task_of);
  for (int number = 0; number < work.num_numbers(); ++number)
    if (work.wanted(number) && task_of[static_cast<size_t>(number)] < 0)
      problem(-1, fmt::format("{} is missing", to_string(work.piece(number))));
  return task_of;
}

void Validation::check_piece(const StepWork& work, int index, const Piece& piece,
                             std::vector<int>& task_of) {
  const int number = work.find(piece);
  if (number < 0)
    return problem(
        index, fmt::format("{} (task {}) is not this position's work", to_string(piece), index));
  int& first = task_of[static_cast<size_t>(number)];
  if (first >= 0)
    return problem(
        index, fmt::format("{} is done twice, by tasks {} and {}", to_string(piece), first, index));
  first = index;
  check_looks(index, work.task_of(number));
}

void Validation::check_looks(int index, const Task& expected) {
  const Task& t = task(index);
  const auto wrong = [&](const std::string& text) {
    problem(index, fmt::format("{} {}", to_string(t), text));
  };
  if (t.lane != expected.lane)
    wrong(fmt::format("is on lane {}, not on {}", name_of(t.lane), name_of(expected.lane)));
  if (t.positions != expected.positions)
    wrong(fmt::format("runs together with positions [{}], not with [{}]",
                      fmt::join(t.positions, ", "), fmt::join(expected.positions, ", ")));
  if (t.capacity_rows != expected.capacity_rows)
    wrong(fmt::format("has a capacity of {} rows, not of {}", t.capacity_rows,
                      expected.capacity_rows));
  if (t.part != expected.part || t.num_parts != expected.num_parts)
    wrong(fmt::format("is part {} of {}, not {} of {}", t.part, t.num_parts, expected.part,
                      expected.num_parts));
  if (t.chunk != expected.chunk && !(t.kind == Kind::swap && expected.kind == Kind::receive))
    wrong(fmt::format("is of chunk {}, not of {}", t.chunk, expected.chunk));
  if (is_message(t.kind)) {  // a swap is named after what it sends
    const Message& named = t.kind == Kind::receive ? t.receive : t.send;
    if (t.pass != named.pass || t.microbatch != named.microbatch || t.layer != named.layer)
      wrong("has not the pass, micro-batch and layer of its message");
  }
  const auto check_message = [&](const char* what, const Message& message, const Message& right) {
    if (message.rows != right.rows)
      wrong(fmt::format("{} {} rows, not {}", what, message.rows, right.rows));
    else if (message != right)
      wrong(fmt::format("{} a message it should not", what));
  };
  if (t.kind != Kind::swap || expected.kind == Kind::send)
    check_message("sends", t.send, expected.send);
  if (t.kind != Kind::swap || expected.kind == Kind::receive)
    check_message("receives", t.receive, expected.receive);
}

void Validation::check_order(const StepWork& work, const std::vector<int>& task_of) {
  const LocalOrder order(program());
  std::vector<int> needs;
  for (int number = 0; number < work.num_numbers(); ++number) {
    const int later = work.wanted(number) ? task_of[static_cast<size_t>(number)] : -1;
    if (later < 0) continue;
    needs.clear();
    work.needs(number, needs);
    for (const int need : needs) {
      const int earlier = task_of[static_cast<size_t>(need)];
      if (earlier >= 0 && !order.before(earlier, later))
        doubtful_.push_back({position_, earlier, later});
    }
  }
}

// What only all positions together decide. Out of step, they have no order: then a position's own
// has to do.
void Validation::check_together() {
  const Rendezvous rendezvous = match_tasks(programs_, shape_.buckets);
  problems_.insert(problems_.end(), rendezvous.problems.begin(), rendezvous.problems.end());
  std::vector<bool> holds(doubtful_.size(), false);
  if (edges_point_back_ && rendezvous.problems.empty()) {
    const StrictRun run(programs_, rendezvous);
    if (const std::optional<Problem> deadlock = run.deadlock()) {
      problems_.push_back(*deadlock);
      return;
    }
    holds = run.hold(doubtful_);
  }
  for (size_t i = 0; i < doubtful_.size(); ++i) {
    if (holds[i]) continue;
    position_ = doubtful_[i].position;
    problem(doubtful_[i].later,
            fmt::format("{} starts before {} has finished", to_string(task(doubtful_[i].later)),
                        to_string(task(doubtful_[i].earlier))));
  }
}

}  // namespace

std::vector<Problem> validate(const StepShape& shape, const Schedule& schedule,
                              std::span<const Program> programs, bool with_boundary) {
  return Validation(shape, schedule, programs, with_boundary).run();
}

void require_proven(const StepShape& shape, const Schedule& schedule,
                    std::span<const Program> programs, bool with_boundary) {
  const std::vector<Problem> problems = validate(shape, schedule, programs, with_boundary);
  if (problems.empty()) return;
  constexpr size_t kShown = 3;
  std::string text = fmt::format("the programs of schedule {} are not proven:", schedule.name);
  for (size_t i = 0; i < std::min(kShown, problems.size()); ++i)
    text += (i > 0 ? "; " : " ") + problems[i].text;
  if (problems.size() > kShown) text += fmt::format("; and {} more", problems.size() - kShown);
  throw InternalError(text);
}

}  // namespace strait
