#include "launch/commands/verify_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace strait {
namespace {

std::string text_json(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      quoted += fmt::format("\\u{:04x}", static_cast<int>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

// JSON has no NaN and no infinity.
std::string number_json(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : "null";
}

std::string number_text(double value) {
  return value == std::floor(value) && value < 1e9 ? fmt::format("{:.0f}", value)
                                                   : fmt::format("{:.2g}", value);
}

const char* status_of(const Gate& gate) {
  if (!gate.seen) return "none";
  if (!gate.gates()) return "shown";
  return gate.held() ? "held" : "FAILED";
}

}  // namespace

bool VerifyReport::passed() const {
  return std::all_of(gates.begin(), gates.end(), [](const Gate& gate) { return gate.held(); });
}

std::string to_table(const VerifyReport& r) {
  std::string text = fmt::format(
      "verify {}: {} rank{}, pipeline {}, {}{}, experts over {}, {}, combine wire {}, against one "
      "rank\n"
      "{} steps of {} sequences of {} tokens from {}, each from the same state\n"
      "routes: {} of {} choices differ from one rank's{}\n\n",
      r.recipe, r.ranks, r.ranks == 1 ? "" : "s", r.pipeline, r.schedule,
      r.pairs ? " in pairs" : "", r.expert, r.precision, r.combine_wire, r.steps, r.sequences,
      r.sequence_length, r.data, r.flips, r.choices,
      r.flips > 0 ? ", and were replayed there" : "");
  text += fmt::format("{:<18} {:>9} {:>9}  {:<7} {}\n", "gate", "worst", "limit", "",
                      "what, and where it was worst");
  for (const Gate& gate : r.gates) {
    text += fmt::format("{:<18} {:>9} {:>9}  {:<7} {}{}\n", gate.name,
                        gate.seen ? number_text(gate.worst) : "-",
                        gate.gates() ? number_text(gate.limit) : "-", status_of(gate), gate.unit,
                        gate.where.empty() ? "" : "; " + gate.where);
  }
  if (!r.free_run.empty()) {
    text += fmt::format("\nfree run, not gated\n{:>6} {:>12} {:>12} {:>10}\n", "step", "loss",
                        "one rank", "difference");
    for (const FreeStep& step : r.free_run)
      text += fmt::format("{:>6} {:>12.6f} {:>12.6f} {:>10.1e}\n", step.step, step.loss,
                          step.reference_loss, step.loss - step.reference_loss);
  }
  return text + (r.passed() ? "\nall gates held" : "\nnot all gates held");
}

std::string to_json(const VerifyReport& r) {
  std::string gates, steps;
  for (const Gate& gate : r.gates)
    gates +=
        fmt::format(R"({}{{"name":{},"worst":{},"limit":{},"status":{},"unit":{},"where":{}}})",
                    gates.empty() ? "" : ",", text_json(gate.name), number_json(gate.worst),
                    number_json(gate.limit), text_json(status_of(gate)), text_json(gate.unit),
                    text_json(gate.where));
  for (const FreeStep& step : r.free_run)
    steps +=
        fmt::format(R"({}{{"step":{},"loss":{},"reference_loss":{}}})", steps.empty() ? "" : ",",
                    step.step, number_json(step.loss), number_json(step.reference_loss));
  return fmt::format(
      R"({{"kind":"verify","recipe":{},"ranks":{},"pipeline":{},"schedule":{},"pairs":{},"expert":{},"precision":{},"combine_wire":{},"data":{},"steps":{},)"
      R"("sequences":{},"sequence_length":{},"choices":{},"flips":{},"gates":[{}],"free_run":[{}],"passed":{}}})",
      text_json(r.recipe), r.ranks, r.pipeline, text_json(r.schedule), r.pairs, r.expert,
      text_json(r.precision), text_json(r.combine_wire), text_json(r.data), r.steps, r.sequences,
      r.sequence_length, r.choices, r.flips, gates, steps, r.passed());
}

}  // namespace strait
