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
      {.name = "gradients",
       .value = value_of<&F::gradients>,
       .choices = {"1x128", "128x128"},
       .doc =
           "Tiles of the gradients that FP8 products read, each with a scale: 1x128 (128x1 for "
           "weight gradients), or, to study what that is for, 128x128, with which the DeepSeek-V3 "
           "report (appendix B.2) saw a model diverge."},
  };
  return table;
}

}  // namespace strait
