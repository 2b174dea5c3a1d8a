#include "launch/commands/formats.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "data/huggingface/fp8_blocks.h"
#include "data/huggingface/model_folder.h"
#include "launch/engine/engine_settings.h"
#include "parallel/shard/bucket.h"

namespace strait {
namespace {

using Json = nlohmann::ordered_json;
using Row = std::vector<std::string>;

std::string text_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "FP32";
    case DType::bf16:
      return "BF16";
    case DType::e4m3:
      return "E4M3";
    default:
      return name_of(dtype);
  }
}
std::string tiles_text(const char* format, ScaleLayout layout) {
  return fmt::format("{} {}", format, name_of(layout));
}

struct Role {
  std::string name;
  std::vector<const Parameter*> parameters;  // all of the same formats
};

void add_role(std::vector<Role>& roles, const std::string& name,
              const std::vector<const Parameter*>& parameters) {
  Role* role = nullptr;
  for (Role& known : roles)
    if (known.name == name) role = &known;
  for (const Parameter* parameter : parameters) {
    if (parameter == nullptr) continue;
    if (role == nullptr) role = &roles.emplace_back(Role{name, {}});
    role->parameters.push_back(parameter);
  }
}

// In the order forward uses them.
std::vector<Role> roles_of(const Model& model) {
  const bool tied = model.head == model.embedding;
  std::vector<Role> roles;
  add_role(roles, tied ? "embedding and head" : "embedding", {model.embedding});
  for (const LayerParameters& layer : model.layers) {
    const AttentionParameters& a = layer.attention;
    add_role(roles, "attention projections", {a.q, a.q_a, a.q_b, a.kv_a, a.kv_b, a.o});
    add_role(roles, "norms", {a.input_norm, a.q_a_norm, a.kv_a_norm, a.mlp_norm});
    add_role(roles, layer.is_moe ? "shared experts" : "dense MLP",
             {layer.mlp.gate_up, layer.mlp.down});
    add_role(roles, "router", {layer.router});
    add_role(roles, "routed experts", {layer.experts_gate_up, layer.experts_down});
  }
  add_role(roles, "norms", {model.norm});
  if (!tied) add_role(roles, "head", {model.head});
  if (model.mtp) {
    add_role(roles, "norms", {model.mtp->embedding_norm, model.mtp->hidden_norm, model.mtp->norm});
    add_role(roles, "MTP projection", {model.mtp->projection});
  }
  return roles;
}

// The tiles that products of FP8 layers read, as the tape makes them.
struct Tiles {
  ScaleLayout rows, columns;
};
Tiles tiles_of_products() {
  Context ctx(Device::meta, 1);
  Value value(ctx.empty({kScaleBlock, kScaleBlock}, DType::bf16, Purpose::workspace));
  const std::vector<int64_t> offsets = {0, kScaleBlock};
  return {value.fp8_rows(ctx, Purpose::workspace)->layout,
          value.fp8_columns(ctx, offsets, Purpose::workspace)->layout};
}

class Sections {
 public:
  explicit Sections(const Recipe& recipe)
      : mesh_(static_cast<int>(recipe.parallel.pipeline * recipe.parallel.expert),
              static_cast<int>(recipe.parallel.pipeline), static_cast<int>(recipe.parallel.expert)),
        settings_(engine_settings(recipe, mesh_, 1)),
        model_(build_model(settings_.model,
                           {0, std::min<int64_t>(1, settings_.model.n_routed_experts)},
                           settings_.formats)),
        ctx_(Device::meta, 1),
        buckets_(build_buckets(ctx_, model_, {.moments = settings_.optimizer.moments()})),
        roles_(roles_of(model_)) {
    for (const Bucket& bucket : buckets_)
      for (const BucketEntry& entry : bucket.entries) bucket_of_[entry.parameter] = &bucket;
  }

  FormatSection weights() const {
    FormatSection section{"weights",
                          {"role", "kept", "multiplies", "sums", "gradient", "master", "moments",
                           "export --dtype fp8"},
                          {}};
    for (const Role& role : roles_) {
      section.rows.push_back(weights_row(role));
      if (role.name == "attention projections")
        section.rows.push_back(
            {"attention itself", "", text_of(compute()), text_of(DType::f32), "", "", "", ""});
    }
    return section;
  }

  // What is made again keeps nothing of its own.
  FormatSection waiting() const {
    FormatSection section{"waits for backward", {"what", "as"}, {}};
    const auto row = [&section](const char* what, const std::string& as) {
      section.rows.push_back({what, as});
    };
    const Recompute& again = settings_.recompute;
    row("hidden state", text_of(kHiddenDType));
    row("norms' outputs, inputs of attention's projections",
        again.norms ? kAgain : input_text(operands_of("attention projections")));
    row("queries, keys and values", again.mla_up ? kAgain : text_of(compute()));
    const DType o = operands_of("attention projections");
    row("attention's output, input of its last projection",
        again.compact ? tiles_text("E5M6", tiles_.rows)
        : o == compute()
            ? text_of(o)
            : fmt::format("{} and {}", text_of(compute()), tiles_text("E4M3", tiles_.rows)));
    for (const char* mlp : {"dense MLP", "shared experts", "routed experts"})
      if (has(mlp)) mlp_rows(section, mlp);
    if (std::ranges::any_of(model_.parameters,
                            [](const auto& p) { return p->operands == DType::e4m3; }))
      row("FP8 layers' inputs and gradients, for weight gradients",
          tiles_text("E4M3", tiles_.columns));
    return section;
  }

  FormatSection wires() const {
    FormatSection section{"wires", {"what", "as"}, {}};
    const auto row = [&section](const char* what, const std::string& as) {
      section.rows.push_back({what, as});
    };
    const std::string back = text_of(settings_.combine_wire);
    const std::string codes = tiles_text("E4M3", tiles_.rows) + ", scales FP32";
    if (has("routed experts")) {
      const bool alone = mesh_.expert_size() == 1;
      const std::string rounded =
          settings_.fp8_dispatch ? codes + " (rounded alike, not sent)" : "not sent";
      row("rows to the experts", alone                    ? rounded
                                 : settings_.fp8_dispatch ? codes
                                                          : text_of(compute()));
      row("experts' sums back", alone ? "not sent" : settings_.fp8_sums ? codes : back);
      row("gradients of the sums, to the experts", alone                    ? rounded
                                                   : settings_.fp8_dispatch ? codes
                                                                            : back);
      row("gradients of the rows back", alone ? "not sent" : back);
    }
    if (mesh_.pipeline_size() > 1)
      row("hidden state and its gradient between stages", text_of(kHiddenDType));
    row("sums of gradients over replicas", text_of(buckets_.front().gradients.dtype()));
    row("new weights to replicas", distinct([](const Bucket& b) { return text_of(b.dtype); }));
    return section;
  }

  FormatSection checkpoint() const {
    const huggingface::ModelFolder folder;
    return {"checkpoint",
            {"what", "as"},
            {{"master weights", text_of(buckets_.front().master.dtype())},
             {"moments", text_of(buckets_.front().first_moment.dtype())},
             {"export, by default", text_of(folder.dtype)}}};
  }

 private:
  static constexpr const char* kAgain = "made again";

  DType compute() const { return settings_.formats.compute; }
  bool has(const std::string& role) const {
    return std::ranges::any_of(roles_, [&](const Role& known) { return known.name == role; });
  }
  DType operands_of(const std::string& role) const {
    const auto found =
        std::ranges::find_if(roles_, [&](const Role& known) { return known.name == role; });
    return found->parameters.front()->operands;
  }

  // The router reads what the shared experts read, too.
  std::string x_text(const std::string& role) const {
    if (settings_.recompute.norms) return kAgain;
    const DType operands = operands_of(role);
    return input_text(operands) + (role == "shared experts" && operands == DType::e4m3
                                       ? ", also " + text_of(compute())
                                       : "");
  }
  // An input that one layer alone keeps.
  std::string input_text(DType operands) const {
    return operands == DType::e4m3 ? tiles_text("E4M3", tiles_.rows) : text_of(compute());
  }

  void mlp_rows(FormatSection& section, const std::string& role) const {
    const Recompute& again = settings_.recompute;
    const DType operands = operands_of(role);
    const bool routed = role == "routed experts";
    const bool rows_are_x = routed && mesh_.expert_size() == 1 && !settings_.fp8_dispatch;
    const std::string compact =
        again.compact ? tiles_text("E4M3", tiles_.rows) : text_of(compute());
    if (routed)
      section.rows.push_back({"rows that came to the experts",
                              rows_are_x               ? "the layer's input itself"
                              : settings_.fp8_dispatch ? tiles_text("E4M3", tiles_.rows)
                                                       : compact});
    else
      section.rows.push_back({role + ": input", x_text(role)});
    section.rows.push_back({role + ": inputs of SwiGLU", compact});
    section.rows.push_back(
        {role + ": outputs of SwiGLU", again.swiglu ? kAgain : input_text(operands)});
  }

  std::string tiles_of(const Parameter& weight) const {
    const char *rows = name_of(tiles_.rows), *columns = name_of(tiles_.columns),
               *blocks = name_of(ScaleLayout::blocks_128x128);
    return weight.gradient_blocks
               ? fmt::format(": x {}; dy, weight {}; for dW {}, {}", rows, blocks, columns, blocks)
               : fmt::format(": x, dy {}; weight {}; for dW {}", rows, blocks, columns);
  }

  Row weights_row(const Role& role) const {
    const Parameter& first = *role.parameters.front();
    for (const Parameter* parameter : role.parameters)
      STRAIT_CHECK(parameter->dtype == first.dtype && parameter->operands == first.operands,
                   parameter->name + " has other formats than " + first.name);
    const Bucket& bucket = *bucket_of_.at(&first);
    const bool scaled = first.operands == DType::e4m3;
    std::string multiplies = text_of(first.operands);
    if (scaled) multiplies += tiles_of(first);
    if (role.name == "embedding") multiplies = "looked up";
    const std::string& name = first.parts.front().name;
    return {role.name,
            text_of(bucket.dtype),
            multiplies,
            text_of(DType::f32) + (scaled ? fmt::format(", scaled every {}", kScaleBlock) : ""),
            text_of(bucket.gradients.dtype()),
            text_of(bucket.master.dtype()),
            text_of(bucket.first_moment.dtype()),
            huggingface::is_fp8_weight(name) ? tiles_text("E4M3", ScaleLayout::blocks_128x128)
                                             : text_of(huggingface::ModelFolder{}.dtype)};
  }

  template <class Text>
  std::string distinct(const Text& text) const {
    std::vector<std::string> found;
    for (const Bucket& bucket : buckets_)
      if (std::ranges::find(found, text(bucket)) == found.end()) found.push_back(text(bucket));
    return fmt::format("{}", fmt::join(found, ", "));
  }

  Mesh mesh_;
  EngineSettings settings_;
  Model model_;
  Context ctx_;
  std::vector<Bucket> buckets_;
  std::vector<Role> roles_;
  std::map<const Parameter*, const Bucket*> bucket_of_;
  Tiles tiles_ = tiles_of_products();
};

std::string text_of(const FormatSection& section) {
  std::vector<size_t> widths;
  for (const std::string& column : section.columns) widths.push_back(column.size());
  for (const auto& row : section.rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  const auto line = [&widths](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t i = 0; i < cells.size(); ++i) text += fmt::format("{:<{}}  ", cells[i], widths[i]);
    return text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
  };
  std::string text = section.name + "\n  " + line(section.columns);
  for (const auto& row : section.rows) text += "  " + line(row);
  return text;
}

Json json_of(const FormatSection& section) {
  Json rows = Json::array();
  for (const auto& row : section.rows) {
    Json cells;
    for (size_t i = 0; i < row.size(); ++i)
      if (!row[i].empty()) cells[section.columns[i]] = row[i];
    rows.push_back(cells);
  }
  return rows;
}

}  // namespace

std::vector<FormatSection> format_sections(const Recipe& recipe) {
  const Sections sections(recipe);
  return {sections.weights(), sections.waiting(), sections.wires(), sections.checkpoint()};
}

int run_recipe_formats(const std::string& recipe, const std::vector<std::string>& overrides,
                       bool json) {
  Json all = {{"kind", "formats"}, {"recipe", recipe}};
  std::string text;
  for (const FormatSection& section : format_sections(load_recipe(recipe, overrides))) {
    all[section.name] = json_of(section);
    text += (text.empty() ? "" : "\n") + text_of(section);
  }
  fmt::print("{}", json ? all.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n" : text);
  return 0;
}

}  // namespace strait
