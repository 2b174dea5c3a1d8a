#include "core/nn/format_settings.h"

namespace strait {

const SettingsTable& table_of(const FormatSettings*) {
  using F = FormatSettings;
  static const std::vector<std::string> kChoices = {"auto", "bf16", "fp8"};
  static const SettingsTable table = {
      {.name = "attention",
       .value = value_of<&F::attention>,
       .choices = kChoices,
       .doc = "What the products with attention's projections multiply."},
      {.name = "mlp",
       .value = value_of<&F::mlp>,
       .choices = kChoices,
       .doc = "What dense layers and shared experts multiply."},
      {.name = "experts",
       .value = value_of<&F::experts>,
       .choices = kChoices,
       .doc = "What routed experts multiply."},
      {.name = "caches",
       .value = value_of<&F::caches>,
       .choices = kChoices,
       .doc =
           "How the inputs of SwiGLU and attention's output wait for the backward pass. fp8: the "
           "former in FP8, the latter in E5M6."},
  };
  return table;
}

}  // namespace strait
