// core/nn/format_settings.h: the number format of each role, where it is not that of the whole run.
#pragma once

#include <string>

#include "core/settings.h"

namespace strait {

// "auto": as train.precision. "bf16" and "fp8" need a run in bf16 or fp8.
struct FormatSettings {
  std::string attention = "auto";   // operands of its projections
  std::string mlp = "auto";         // of dense layers and shared experts
  std::string experts = "auto";     // of routed experts
  std::string caches = "auto";      // what backward reads of SwiGLU's inputs and attention's output
  std::string gradients = "1x128";  // tiles of gradients in FP8; "128x128" for studies
  bool operator==(const FormatSettings&) const = default;
};

const SettingsTable& table_of(const FormatSettings*);

}  // namespace strait
