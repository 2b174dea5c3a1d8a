#include "launch/plan/plan_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "launch/view/json_text.h"

namespace strait {
namespace {

std::string gigabytes(double bytes) { return fmt::format("{:.1f} GB", bytes / 1e9); }
std::string percent(double share) { return fmt::format("{:.1f}%", 100 * share); }

std::string large(double number) {
  if (number >= 1e12) return fmt::format("{:.4g} T", number / 1e12);
  if (number >= 1e9) return fmt::format("{:.4g} B", number / 1e9);
  if (number >= 1e6) return fmt::format("{:.4g} M", number / 1e6);
  return fmt::format("{:.4g}", number);
}

std::string seconds_text(double seconds) {
  return seconds >= 1 ? fmt::format("{:.2f} s", seconds) : fmt::format("{:.2f} ms", seconds * 1e3);
}

void row(std::string& text, const char* name, const std::string& value) {
  text += fmt::format("  {:<22}{}\n", name, value);
}

std::string memory_rows(const MemoryUse& memory, int64_t usable) {
  std::string text;
  for (int purpose = 0; purpose < kNumPurposes; ++purpose) {
    const auto bytes = static_cast<double>(memory.bytes[static_cast<size_t>(purpose)]);
    if (bytes > 0)
      text += fmt::format("    {:<20}{:>10}\n", name_of(static_cast<Purpose>(purpose)),
                          gigabytes(bytes));
  }
  const auto total = static_cast<double>(memory.total());
  return text + fmt::format("    {:<20}{:>10} of {} usable{}\n", "total", gigabytes(total),
                            gigabytes(static_cast<double>(usable)),
                            total > static_cast<double>(usable) ? ": does not fit" : "");
}

std::string step_text(const PlanReport& report, const PlannedStep& step) {
  const Planner& planner = *report.planner;
  const StepFigures& f = step.figures;
  const LaneAccount& a = f.account;
  const RunFigures run = run_figures(planner, f.seconds, report.question);
  const RunFigures skewed = run_figures(planner, step.skewed_seconds, report.question);
  std::string text = to_string(step.layout) + "\n";
  row(text, "ranks",
      fmt::format("{}: pipeline {} x data {}; {} micro-batches a step", step.ranks,
                  step.layout.pipeline, step.ranks / step.layout.pipeline, step.num_microbatches));
  row(text, "step",
      fmt::format("{} .. {} if every exchange waits for an uneven load", seconds_text(f.seconds),
                  seconds_text(step.skewed_seconds)));
  if (step.first_seconds > 0)
    row(text, "first step",
        fmt::format("{}, with {} of the {} sequences", seconds_text(step.first_seconds),
                    planner.recipe().train.batch_ramp.from, planner.recipe().train.global_batch));
  row(text, "of it, per rank",
      fmt::format("compute {} ({}), exposed communication {}, idle {}",
                  seconds_text(a.compute_seconds), percent(a.compute_seconds / f.seconds),
                  seconds_text(a.exposed_seconds), seconds_text(a.idle_seconds)));
  row(text, "communication",
      fmt::format("{}, {} of it hidden under compute", seconds_text(a.transfer_seconds),
                  percent(f.hidden_share())));
  row(text, "sent by a rank",
      fmt::format("{} between nodes, {} inside", gigabytes(f.far_bytes), gigabytes(f.near_bytes)));
  row(text, "speed",
      fmt::format("{:.0f} tokens/s, {:.0f} a rank; {:.0f} TFLOP/s a rank, MFU {}",
                  run.tokens_per_second, run.tokens_per_second / static_cast<double>(step.ranks),
                  run.flops_per_second / 1e12, percent(run.mfu)));
  row(text, "run",
      fmt::format("{} tokens: {} .. {} rank-hours, {:.4g} K per T tokens",
                  large(report.question.tokens), large(run.rank_hours), large(skewed.rank_hours),
                  run.rank_hours / report.question.tokens * 1e12 / 1e3));
  if (report.question.price > 0)
    row(text, "cost",
        fmt::format("{} .. {} dollars at {:.4g} an hour", large(run.dollars), large(skewed.dollars),
                    report.question.price));
  row(text, "memory",
      fmt::format("of the fullest rank (position {}), expert load even:", f.fullest));
  return text + memory_rows(f.memory, planner.usable_memory());
}

std::string link_text(const char* name, double narrowest, double own) {
  if (narrowest == 0) return fmt::format("  {:<22}carries nothing\n", name);
  return fmt::format("  {:<22}{:.3g} GB/s a rank; this cluster has {:.3g}{}\n", name,
                     narrowest / 1e9, own / 1e9, narrowest > own ? ": too narrow" : "");
}

std::string search_text(const PlanReport& report) {
  const Search& search = *report.search;
  std::string text = fmt::format(
      "\nsearch: {} layouts, {} of them slower by their compute alone, {} too large for memory\n",
      search.num_looked_at, search.num_too_slow, search.num_too_large);
  if (search.fitting.empty())
    return text +
           fmt::format("  none fits; the smallest needs {} of {} a rank: {}\n",
                       gigabytes(static_cast<double>(search.smallest.figures.memory.total())),
                       gigabytes(static_cast<double>(report.planner->usable_memory())),
                       to_string(search.smallest.layout));
  const size_t shown = std::min(search.fitting.size(), static_cast<size_t>(report.top));
  text += fmt::format("  {:>9}  {:>9} {:>9} {:>9} {:>8}  {}\n", "step", "compute", "exposed",
                      "idle", "memory", "layout");
  for (size_t i = 0; i < shown; ++i) {
    const StepFigures& f = search.fitting[i].figures;
    text += fmt::format(
        "  {:>9}  {:>9} {:>9} {:>9} {:>8}  {}\n", seconds_text(f.seconds),
        seconds_text(f.account.compute_seconds), seconds_text(f.account.exposed_seconds),
        seconds_text(f.account.idle_seconds), gigabytes(static_cast<double>(f.memory.total())),
        to_string(search.fitting[i].layout));
  }
  if (search.fitting.size() > 1)
    text += fmt::format("  the first beats the second: {}\n",
                        why_faster(search.fitting[0].figures, search.fitting[1].figures));
  return text;
}

std::string elsewhere_text(const PlanReport& report, const PlannedStep& here) {
  const PlanElsewhere& there = *report.elsewhere;
  const auto line = [&](const char* what, const PlannedStep& step) {
    const int64_t usable = there.planner->usable_memory(), needed = step.figures.memory.total();
    return fmt::format(
        "  {:<22}{}: {:.2f} times as long; {} of {} usable{}\n", what,
        seconds_text(step.figures.seconds), step.figures.seconds / here.figures.seconds,
        gigabytes(static_cast<double>(needed)), gigabytes(static_cast<double>(usable)),
        needed > usable ? ": does not fit" : "");
  };
  std::string text = fmt::format("\nthe same layout on {} ranks of {}:\n", there.planner->ranks(),
                                 there.planner->cluster().name);
  text +=
      there.same != nullptr ? line("step", *there.same) : "  does not fit\n" + there.why_not + "\n";
  if (there.best != nullptr)
    text += line("its own best", *there.best) +
            fmt::format("  {:<22}{}\n", "", to_string(there.best->layout));
  return text;
}

std::string assumptions_text(const Planner& planner) {
  const char* const peak = planner.precision() == Precision::fp32 ? "FP32" : "BF16";
  std::string text = "\nhow to read it:\n";
  row(text, "MFU",
      fmt::format(
          "FLOPs of the main model's forward and backward, causal attention as half, nothing "
          "recomputed and no MTP module, over the {} peak: as DeepSeek and NVIDIA report it",
          peak));
  row(text, "an uneven load",
      fmt::format("the busiest rank of each exchange has {:.4g} times the mean rows (--skew; an "
                  "assumption) and all wait for it",
                  planner.skew()));
  row(text, "usable memory",
      fmt::format("{} of the device's {}: what a driver's context and communication buffers take "
                  "is not in the table (an assumption)",
                  percent(static_cast<double>(planner.usable_memory()) / planner.cluster().memory),
                  gigabytes(planner.cluster().memory)));
  row(text, "speeds",
      fmt::format("recipes/clusters/{}.yaml, each with its source", planner.cluster().name));
  return text;
}

std::string step_json(const Planner& planner, const RunQuestion& question,
                      const PlannedStep& step) {
  const StepFigures& f = step.figures;
  const LaneAccount& a = f.account;
  const RunFigures run = run_figures(planner, f.seconds, question);
  const RunFigures skewed = run_figures(planner, step.skewed_seconds, question);
  std::string memory;
  for (int purpose = 0; purpose < kNumPurposes; ++purpose)
    memory += fmt::format("\"{}\":{},", name_of(static_cast<Purpose>(purpose)),
                          f.memory.bytes[static_cast<size_t>(purpose)]);
  return fmt::format(
      R"({{"layout":{},"pipeline":{},"expert":{},"schedule":{},"chunks":{},"pairs":{},"waves":{},"micro_batch":{},)"
      R"("micro_batches":{},"ranks":{},"step_seconds":{},"first_step_seconds":{},"skewed_step_seconds":{},"compute_seconds":{},)"
      R"("exposed_seconds":{},"idle_seconds":{},"transfer_seconds":{},"hidden_share":{},"far_bytes":{},"near_bytes":{},)"
      R"("tokens":{},"tokens_per_second":{},"flops_per_second":{},"mfu":{},"rank_hours":{},"skewed_rank_hours":{},"dollars":{},)"
      R"("memory_bytes":{{{}"total":{}}},"fits":{}}})",
      json_quoted(to_string(step.layout)), step.layout.pipeline, step.layout.expert,
      json_quoted(step.layout.schedule), step.layout.chunks, step.layout.pairs, step.layout.waves,
      step.layout.micro_batch, step.num_microbatches, step.ranks, f.seconds,
      step.first_seconds > 0 ? json_number(step.first_seconds) : "null", step.skewed_seconds,
      a.compute_seconds, a.exposed_seconds, a.idle_seconds, a.transfer_seconds, f.hidden_share(),
      f.far_bytes, f.near_bytes, question.tokens, run.tokens_per_second, run.flops_per_second,
      run.mfu, run.rank_hours, skewed.rank_hours, run.dollars, memory, f.memory.total(),
      f.memory.total() <= planner.usable_memory());
}

}  // namespace

RunFigures run_figures(const Planner& planner, double step_seconds, const RunQuestion& question) {
  const Recipe& recipe = planner.recipe();
  const auto ranks = static_cast<double>(planner.ranks());
  RunFigures run;
  run.tokens_per_step =
      static_cast<double>(recipe.train.global_batch * recipe.train.sequence_length);
  run.tokens_per_second = run.tokens_per_step / step_seconds;
  run.flops_per_second = run.tokens_per_second * planner.model_flops_per_token() / ranks;
  const Precision peak = planner.precision() == Precision::fp32 ? Precision::fp32 : Precision::bf16;
  run.mfu = run.flops_per_second / peak_flops(planner.cluster(), peak);
  run.rank_hours = question.tokens / run.tokens_per_second * ranks / 3600;
  run.dollars = run.rank_hours * question.price;
  return run;
}

std::string to_text(const PlanReport& report) {
  const Planner& planner = *report.planner;
  std::string text =
      fmt::format("plan of {} on {}, {}: predictions; nothing was run\n\n",
                  planner.recipe().run.name, planner.cluster().name, name_of(planner.precision()));
  text += "the recipe's layout: ";
  text += report.asked != nullptr ? step_text(report, *report.asked) : report.why_not_asked + "\n";
  if (report.search != nullptr) text += search_text(report);
  if (report.best != nullptr) text += "\nthe best layout found: " + step_text(report, *report.best);
  const PlannedStep* step = report.best != nullptr ? report.best : report.asked;
  if (step == nullptr) return text;
  if (report.elsewhere != nullptr) text += elsewhere_text(report, *step);
  text +=
      "\nthe narrowest links that together still hide the communication of this layout (a further "
      "micro-batch within "
      "2% of what it takes with endless links):\n";
  text += link_text("between nodes", report.narrowest.card, planner.cluster().card_bandwidth);
  text += link_text("inside a node", report.narrowest.fabric, planner.cluster().fabric_bandwidth);
  return text + assumptions_text(planner);
}

std::string to_json(const PlanReport& report) {
  const Planner& planner = *report.planner;
  std::string listed;
  if (report.search != nullptr) {
    const auto& fitting = report.search->fitting;
    for (size_t i = 0; i < std::min(fitting.size(), static_cast<size_t>(report.top)); ++i)
      listed += fmt::format(R"({}{{"layout":{},"step_seconds":{},"memory_bytes":{}}})",
                            i > 0 ? "," : "", json_quoted(to_string(fitting[i].layout)),
                            fitting[i].figures.seconds, fitting[i].figures.memory.total());
  }
  const auto step = [](const auto& on, const PlannedStep* s) {
    return s != nullptr ? step_json(*on.planner, on.question, *s) : "null";
  };
  std::string elsewhere = "null";
  if (const PlanElsewhere* there = report.elsewhere; there != nullptr)
    elsewhere = fmt::format(R"({{"cluster":{},"same":{},"best":{}}})",
                            json_quoted(there->planner->cluster().name), step(*there, there->same),
                            step(*there, there->best));
  return fmt::format(
      R"({{"kind":"plan","predicted":true,"recipe":{},"cluster":{},"precision":"{}","asked":{},"best":{},)"
      R"("fitting":[{}],"narrowest_card_bytes_per_second":{},"narrowest_fabric_bytes_per_second":{},"on":{}}})",
      json_quoted(planner.recipe().run.name), json_quoted(planner.cluster().name),
      name_of(planner.precision()), step(report, report.asked), step(report, report.best), listed,
      report.narrowest.card, report.narrowest.fabric, elsewhere);
}

}  // namespace strait
