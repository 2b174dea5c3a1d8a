#include "launch/commands/schedule.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/errors.h"
#include "parallel/pipeline/pairing.h"
#include "parallel/pipeline/schedule_file.h"
#include "parallel/pipeline/schedule_times.h"
#include "parallel/pipeline/schedules.h"

namespace strait {
namespace {

using Json = nlohmann::ordered_json;

struct Report {
  Schedule schedule;
  SlotCosts costs;
  std::optional<Pairing> pairing{};  // how the schedule came to its pairs, if it was asked for
  ScheduleTimes times{};
  std::vector<SlotCounts> counts{};  // [position]
  SlotCounts all{};

  double largest_bubble() const { return times.makespan - *std::ranges::min_element(times.busy); }
};

Schedule chosen_schedule(const ScheduleCommandOptions& o) {
  if (o.name.empty() == o.file.empty())
    throw RecipeError(fmt::format("schedule takes either --name or --file; names are {}",
                                  fmt::join(schedule_names(), ", ")));
  const ScheduleOptions options{.positions = o.ranks,
                                .microbatches = o.microbatches,
                                .chunks = o.chunks,
                                .positions_key = "--ranks",
                                .microbatches_key = "--micro-batches",
                                .chunks_key = "--chunks"};
  if (!o.file.empty()) return read_schedule(o.file, options);
  if (o.ranks == 0 || o.microbatches == 0)
    throw RecipeError("schedule --name needs --ranks and --micro-batches, both 1 at least");
  return make_schedule(o.name, options);
}

Report report_of(const ScheduleCommandOptions& options) {
  Report report{chosen_schedule(options), parse_slot_costs(options.times, "--times")};
  if (!options.stage_costs.empty())
    report.costs.stage_factors = parse_stage_factors(options.stage_costs, "--stage-costs");
  if (options.pair) {
    if (!report.costs.pair)
      throw RecipeError("--pair needs the time FB of a pair in --times, for example FB=3");
    report.pairing = pair_schedule(report.schedule, {.costs = report.costs});
    report.schedule = report.pairing->schedule;
  }
  report.times = schedule_times(report.schedule, report.costs);
  for (int position = 0; position < report.schedule.num_positions(); ++position)
    report.counts.push_back(count_slots(report.schedule, position));
  report.all = count_slots(report.schedule);
  return report;
}

std::string number(double value) { return fmt::format("{:.6g}", value); }

std::string held_by(const Schedule& schedule, int position) {
  std::string text;
  for (const Chunk& chunk : schedule.chunks[position]) {
    if (!text.empty()) text += ' ';
    text += std::to_string(chunk.stage);
    if (schedule.num_copies > 1) text += fmt::format(".{}", chunk.copy);
  }
  return text;
}

std::string pairing_text(const Pairing& pairing) {
  if (pairing.makespan_after >= pairing.makespan_before && count_slots(pairing.schedule).pairs == 0)
    return "changed nothing: at these times no pairs make it faster";
  std::string moved = "in the order it had";
  if (pairing.per_position != 0 || pairing.all != 0)
    moved = fmt::format("rank r of R begins with {} * (R - 1 - r) + {} more forwards",
                        pairing.per_position, pairing.all);
  return fmt::format("{}; makespan {} before", moved, number(pairing.makespan_before));
}

std::string summary_text(const Report& r) {
  const Schedule& s = r.schedule;
  std::string text = fmt::format("schedule   {}: {} ranks, {} stages{}, {} micro-batches\n", s.name,
                                 s.num_positions(), s.num_stages,
                                 s.num_copies > 1 ? fmt::format(" in {} copies", s.num_copies) : "",
                                 s.num_microbatches);
  text += fmt::format("times      F {}, B {}", number(r.costs.forward), number(r.costs.backward));
  if (r.costs.weight) text += fmt::format(" of which W {}", number(*r.costs.weight));
  if (r.costs.pair) text += fmt::format(", pair FB {}", number(*r.costs.pair));
  text += "; of one micro-batch through one stage\n";
  if (r.pairing) text += fmt::format("pairing    {}\n", pairing_text(*r.pairing));
  text += fmt::format("makespan   {}\n", number(r.times.makespan));
  text += fmt::format("bubble     {} on the rank with the most, {:.1f}% of the makespan\n",
                      number(r.largest_bubble()), 100 * r.largest_bubble() / r.times.makespan);
  text +=
      fmt::format("in pairs   {:.1f}% of the forwards and backwards\n", 100 * r.all.paired_share());
  text += fmt::format("peak live  {} micro-batches of one stage, freed after B; {} freed after W\n",
                      r.all.peak_live_until_backward, r.all.peak_live_until_weight);
  return text;
}

std::string table_text(const Report& r) {
  const Schedule& s = r.schedule;
  size_t width = 6;  // of the column of stages
  for (int position = 0; position < s.num_positions(); ++position)
    width = std::max(width, held_by(s, position).size());
  std::string text = fmt::format(
      "{:>4}  {:<{}}  {:>9}  {:>9}  {:>6}  {:>5}  {:>5}  {:>5}  {:>5}  {:>5}  {:>8}  {:>6}  "
      "{:>6}\n",
      "rank", "stages", width, "busy", "bubble", "", "pairs", "F", "B", "I", "W", "in pairs",
      "live B", "live W");
  for (int position = 0; position < s.num_positions(); ++position) {
    const SlotCounts& c = r.counts[position];
    text += fmt::format(
        "{:>4}  {:<{}}  {:>9}  {:>9}  {:>5.1f}%  {:>5}  {:>5}  {:>5}  {:>5}  {:>5}  {:>7.1f}%  "
        "{:>6}  {:>6}\n",
        position, held_by(s, position), width, number(r.times.busy[position]),
        number(r.times.bubble(position)), 100 * r.times.bubble(position) / r.times.makespan,
        c.pairs, c.lone_forwards, c.lone_backwards, c.lone_input_gradients, c.weight_gradients,
        100 * c.paired_share(), c.peak_live_until_backward, c.peak_live_until_weight);
  }
  return text + "F, B, I (input gradient), W: those that are in no pair\n";
}

Json optional_number(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json json_of(const Report& r) {
  const Schedule& s = r.schedule;
  Json ranks = Json::array();
  for (int position = 0; position < s.num_positions(); ++position) {
    const SlotCounts& c = r.counts[position];
    Json stages = Json::array();
    for (const Chunk& chunk : s.chunks[position])
      stages.push_back({{"stage", chunk.stage}, {"copy", chunk.copy}});
    ranks.push_back({{"rank", position},
                     {"stages", stages},
                     {"busy", r.times.busy[position]},
                     {"bubble", r.times.bubble(position)},
                     {"pairs", c.pairs},
                     {"lone_forwards", c.lone_forwards},
                     {"lone_backwards", c.lone_backwards},
                     {"lone_input_gradients", c.lone_input_gradients},
                     {"weight_gradients", c.weight_gradients},
                     {"paired_share", c.paired_share()},
                     {"peak_live_until_backward", c.peak_live_until_backward},
                     {"peak_live_until_weight", c.peak_live_until_weight}});
  }
  Json json = {{"schedule", s.name},
               {"ranks", s.num_positions()},
               {"stages", s.num_stages},
               {"copies", s.num_copies},
               {"micro_batches", s.num_microbatches},
               {"times",
                {{"F", r.costs.forward},
                 {"B", r.costs.backward},
                 {"W", optional_number(r.costs.weight)},
                 {"FB", optional_number(r.costs.pair)}}},
               {"stage_costs", r.costs.stage_factors},
               {"makespan", r.times.makespan},
               {"bubble", r.largest_bubble()},
               {"paired_share", r.all.paired_share()},
               {"peak_live_until_backward", r.all.peak_live_until_backward},
               {"peak_live_until_weight", r.all.peak_live_until_weight},
               {"per_rank", ranks}};
  if (r.pairing)
    json["pairing"] = {{"forwards_per_rank_behind", r.pairing->per_position},
                       {"forwards_of_every_rank", r.pairing->all},
                       {"makespan_before", r.pairing->makespan_before}};
  return json;
}

// Every line a comment of the schedule file.
std::string commented(const std::string& text) {
  std::string lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin) + 1;
    lines += "# " + text.substr(begin, end - begin);
    begin = end;
  }
  return lines;
}

}  // namespace

int run_schedule(const ScheduleCommandOptions& options) {
  const Report report = report_of(options);
  if (options.json) {
    Json json = json_of(report);
    if (options.print) json["text"] = schedule_text(report.schedule);
    fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  const std::string text = summary_text(report) + table_text(report);
  if (options.print)
    fmt::print("{}{}", commented(text), schedule_text(report.schedule));
  else
    fmt::print("{}", text);
  return 0;
}

}  // namespace strait
