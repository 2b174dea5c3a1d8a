#include "launch/commands/draw.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "core/errors.h"
#include "launch/commands/plan.h"
#include "launch/plan/choose_schedule.h"
#include "launch/trainer/report.h"
#include "launch/view/compare.h"
#include "launch/view/html.h"
#include "launch/view/json_text.h"
#include "launch/view/output_file.h"
#include "launch/view/perfetto.h"
#include "launch/view/slots_trace.h"
#include "launch/view/time_text.h"
#include "launch/view/trace_account.h"
#include "parallel/pipeline/schedule_file.h"
#include "parallel/pipeline/schedule_times.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/pipeline/slot_costs.h"
#include "recipes/cluster.h"

namespace strait {
namespace {

std::string sums_text(const Trace& trace) {
  const TraceAccount account = account_of(trace);
  const double rank_seconds =
      account.makespan_us() * 1e-6 * static_cast<double>(account.ranks.size());
  const auto share = [&](double seconds) {
    return rank_seconds > 0 ? 100 * seconds / rank_seconds : 0;
  };
  std::string text =
      fmt::format("{} ({}): {} spans, {}{}; computing {:.1f}%, bubbles {:.1f}% of the ranks' time",
                  trace.title, trace.predicted ? "prediction" : "measured", trace.spans.size(),
                  time_text(account.makespan_us(), trace.relative), trace.relative ? " units" : "",
                  share(account.total.compute_seconds), share(account.total.idle_seconds));
  if (account.total.transfer_seconds > 0)
    text += fmt::format(", exposed transfers {:.1f}%; {:.1f}% of transfers hidden",
                        share(account.total.exposed_seconds), 100 * account.hidden_share());
  return text;
}

std::string sums_json(const Trace& trace) {
  const TraceAccount account = account_of(trace);
  return fmt::format(
      R"({{"title":{},"source":"{}","time":"{}","spans":{},"ranks":{},"makespan_us":{},"compute_us":{},"transfer_us":{},)"
      R"("hidden_us":{},"exposed_us":{},"bubble_us":{}}})",
      json_quoted(trace.title), trace.predicted ? "prediction" : "measured",
      trace.relative ? "relative" : "microseconds", trace.spans.size(), account.ranks.size(),
      json_number(account.makespan_us()), json_number(account.total.compute_seconds * 1e6),
      json_number(account.total.transfer_seconds * 1e6),
      json_number(account.total.hidden_seconds * 1e6),
      json_number(account.total.exposed_seconds * 1e6),
      json_number(account.total.idle_seconds * 1e6));
}

// `name` is that of a schedule, or else of a file with one.
Schedule schedule_of(const std::string& name, const DrawOptions& o) {
  const ScheduleOptions options{.positions = o.ranks,
                                .microbatches = o.microbatches,
                                .chunks = o.chunks,
                                .positions_key = "--ranks",
                                .microbatches_key = "--micro-batches",
                                .chunks_key = "--chunks"};
  const std::vector<std::string> names = schedule_names();
  if (std::find(names.begin(), names.end(), name) == names.end() && std::filesystem::exists(name)) {
    return read_schedule(name, options);
  }
  if (o.ranks < 1 || o.microbatches < 1)
    throw RecipeError(fmt::format(
        "[draw] a schedule needs its size, for example --schedule {} --ranks 8 --micro-batches 20",
        name));
  return make_schedule(name, options);
}

Trace trace_of_schedule(const std::string& name, const DrawOptions& options) {
  const Schedule schedule = schedule_of(name, options);
  const ScheduleTimes run = schedule_times(schedule, parse_slot_costs(options.times, "--times"));
  return trace_of_slots(
      fmt::format("{}, {} ranks, {} micro-batches, {}", schedule.name, schedule.num_positions(),
                  schedule.num_microbatches, options.times),
      schedule, run.slots);
}

int run_compare(const DrawOptions& options) {
  const Trace a = read_perfetto(options.compare[0]), b = read_perfetto(options.compare[1]);
  const Comparison comparison = compare(a, b);
  fmt::print("{}", options.json ? to_json(comparison, options.top) + "\n"
                                : to_table(comparison, options.top));
  return 0;
}

Trace trace_of_plan(const DrawOptions& options) {
  Planner planner(load_recipe(options.trace, options.overrides), load_cluster(options.cluster),
                  {.times = read_task_times(options.task_times)});
  const PlannedStep step = planner.plan(own_layout(planner));
  return trace_of(fmt::format("{} on {}: {}", planner.recipe().run.name, planner.cluster().name,
                              to_string(step.layout)),
                  step.programs, step.costs, step.simulation);
}

std::vector<Trace> traces_of(const DrawOptions& options) {
  std::vector<Trace> traces;
  if (!options.cluster.empty()) {
    traces.push_back(trace_of_plan(options));
    if (!options.beside.empty()) traces.push_back(read_perfetto(options.beside));
    return traces;
  }
  if (!options.trace.empty()) {
    for (const std::string& path : {options.trace, options.beside})
      if (!path.empty()) traces.push_back(read_perfetto(path));
    return traces;
  }
  for (const std::string& name : {options.schedule, options.beside})
    if (!name.empty()) traces.push_back(trace_of_schedule(name, options));
  return traces;
}

}  // namespace

int run_draw(const DrawOptions& options) {
  const int sources = !options.trace.empty() + !options.schedule.empty() + !options.compare.empty();
  if (sources != 1)
    throw RecipeError(
        "[draw] say what: a file of a trace, --schedule NAME, or --compare A B; one of them");
  if (!options.compare.empty()) return run_compare(options);
  draw_traces(traces_of(options), options.out, options.perfetto, options.json);
  return 0;
}

void draw_traces(std::span<const Trace> traces, const std::string& out, const std::string& perfetto,
                 bool json) {
  if (out.empty() && perfetto.empty())
    throw RecipeError("[draw] say where to: --out page.html, --perfetto trace.json, or both");
  std::string written;
  const auto put = [&](const std::string& path, const std::function<void(std::ostream&)>& write) {
    if (path.empty()) return;
    const int64_t size = write_output_file(path, write);
    written += json ? fmt::format("{}{{\"file\":{},\"bytes\":{}}}", written.empty() ? "" : ",",
                                  json_quoted(path), size)
                    : fmt::format("wrote {} ({})\n", path, bytes_text(static_cast<double>(size)));
  };
  put(out, [&](std::ostream& stream) { write_html(traces, stream); });
  put(perfetto, [&](std::ostream& stream) { write_perfetto(traces.front(), stream); });
  std::string sums;
  for (const Trace& trace : traces)
    sums += json ? (sums.empty() ? "" : ",") + sums_json(trace) : sums_text(trace) + "\n";
  if (json) {
    fmt::print("{{\"kind\":\"draw\",\"traces\":[{}],\"written\":[{}]}}\n", sums, written);
  } else {
    fmt::print("{}{}", sums, written);
  }
}

}  // namespace strait
