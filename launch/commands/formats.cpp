#include "launch/commands/formats.h"

#include <fmt/format.h>

#include <algorithm>

#include "launch/engine/engine_settings.h"
#include "launch/view/json_text.h"
#include "recipes/formats.h"

namespace strait {
namespace {

constexpr const char* kWeights = "weights";
constexpr const char* kKept = "between forward and backward";
constexpr const char* kSent = "between ranks";
constexpr const char* kStored = "on disk";

std::string name_of_format(DType dtype) { return dtype == DType::f32 ? "fp32" : name_of(dtype); }

std::string products_of(const Parameter& parameter) {
  switch (parameter.role) {
    case Role::norm:
    case Role::embedding:
      return "-";
    default:
      break;
  }
  if (parameter.operands != DType::e4m3) return name_of_format(parameter.operands);
  return "e4m3: weights 128x128, activations and gradients 1x128, for dW 128x1";
}

// What one parameter is called in the table.
std::string role_of(const Model& model, const Parameter& p) {
  const auto has = [&](const char* part) { return p.name.find(part) != std::string::npos; };
  if (&p == model.embedding) return model.head == &p ? "embedding and head" : "embedding";
  if (&p == model.head) return "head";
  if (p.role == Role::norm) return "norms";
  if (p.role == Role::expert_stack) return "routed experts";
  if (has(".self_attn.")) return "attention's projections";
  if (has(".mlp.gate") && p.dtype == DType::f32 && p.parts.size() == 1) return "router";
  if (has(".shared_experts.")) return "shared experts";
  if (has(".eh_proj")) return "the MTP module's projection";
  return "dense MLPs";
}

void add_weights(const Recipe& recipe, std::vector<FormatRow>& rows) {
  const Model model =
      build_model(recipe.model, {0, recipe.model.n_routed_experts}, formats_of(recipe));
  for (const auto& parameter : model.parameters) {
    FormatRow row{kWeights, role_of(model, *parameter), name_of_format(parameter->dtype),
                  products_of(*parameter)};
    if (&*parameter == model.head && parameter->role == Role::embedding)
      row.products = name_of_format(parameter->operands);
    const bool known = std::ranges::any_of(rows, [&](const FormatRow& other) {
      return other.what == row.what && other.format == row.format && other.products == row.products;
    });
    if (!known) rows.push_back(std::move(row));
  }
}

// A linear layer's input: what recomputation does not bring back is kept as its products read it.
std::string kept_input(bool recomputed, DType operands, const std::string& of) {
  if (recomputed) return "computed again from " + of;
  return operands == DType::e4m3 ? "e4m3, 1x128" : name_of_format(operands);
}

void add_kept(const EngineSettings& s, std::vector<FormatRow>& rows) {
  const ModelFormats& f = s.formats;
  const std::string compute = name_of_format(f.compute);
  const bool moe = s.model.n_routed_experts > 0, compact = s.recompute.compact;
  rows.push_back({kKept, "residual stream", "fp32"});
  rows.push_back({kKept, "inputs of attention's projections",
                  kept_input(s.recompute.norms, f.attention, "the residual stream")});
  rows.push_back({kKept, "attention's output", compact ? "e5m6, 1x128" : compute});
  rows.push_back({kKept, "inputs of SwiGLU", compact ? "e4m3, 1x128" : compute});
  rows.push_back({kKept, "outputs of SwiGLU",
                  kept_input(s.recompute.swiglu, moe ? f.experts : f.mlp, "its inputs")});
  if (moe)
    rows.push_back(
        {kKept, "rows of routed experts", s.fp8_dispatch || compact ? "e4m3, 1x128" : compute});
  const bool fp8 = f.attention == DType::e4m3 || f.mlp == DType::e4m3 || f.experts == DType::e4m3;
  if (fp8) rows.push_back({kKept, "operands that wait for dW", "e4m3, 128x1"});
}

void add_sent(const EngineSettings& s, std::vector<FormatRow>& rows) {
  const std::string codes = "e4m3, 1x128", wire = name_of_format(s.combine_wire);
  if (s.model.n_routed_experts > 0) {
    rows.push_back(
        {kSent, "rows to the experts", s.fp8_dispatch ? codes : name_of_format(s.formats.compute)});
    rows.push_back({kSent, "experts' sums", s.fp8_sums ? codes : wire});
    rows.push_back({kSent, "gradients of experts' sums", s.fp8_dispatch ? codes : wire});
    rows.push_back({kSent, "gradients of rows to the experts", wire});
  }
  rows.push_back({kSent, "residual stream and its gradient, between stages", "fp32"});
  rows.push_back({kSent, "gradients of weights", "fp32"});
  rows.push_back({kSent, "updated weights", "as held"});
}

}  // namespace

std::vector<FormatRow> formats_in_use(const Recipe& recipe) {
  const EngineSettings settings = engine_settings(recipe, Mesh(1, 1, 1), 1);
  std::vector<FormatRow> rows;
  add_weights(recipe, rows);
  rows.push_back({kWeights, "master weights", "fp32"});
  rows.push_back({kWeights, "gradients, summed over a step", "fp32"});
  rows.push_back({kWeights, "moments", settings.optimizer.moments_dtype});
  add_kept(settings, rows);
  add_sent(settings, rows);
  rows.push_back({kStored, "master weights", "fp32"});
  rows.push_back({kStored, "moments", settings.optimizer.moments_dtype});
  rows.push_back({kStored, "exported weights", "fp32, bf16 or fp8, as strait export --dtype says"});
  return rows;
}

int run_recipe_formats(const std::string& recipe, const std::vector<std::string>& overrides,
                       bool json) {
  const std::vector<FormatRow> rows = formats_in_use(load_recipe(recipe, overrides));
  if (json) {
    std::string list;
    for (const FormatRow& row : rows)
      list += fmt::format(R"({}{{"part":{},"what":{},"format":{},"products":{}}})",
                          list.empty() ? "" : ",", json_quoted(row.part), json_quoted(row.what),
                          json_quoted(row.format), json_quoted(row.products));
    fmt::print(R"({{"kind":"formats","recipe":{},"rows":[{}]}})"
               "\n",
               json_quoted(recipe), list);
    return 0;
  }
  std::string part;
  for (const FormatRow& row : rows) {
    if (row.part != part) fmt::print("{}{}\n", part.empty() ? "" : "\n", row.part);
    part = row.part;
    const bool multiplies = !row.products.empty() && row.products != "-";
    fmt::print("  {:<49} {}{}\n", row.what, row.format,
               multiplies ? ", multiplied as " + row.products : "");
  }
  return 0;
}

}  // namespace strait
