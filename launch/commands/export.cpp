#include "launch/commands/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "data/huggingface/model_folder.h"
#include "launch/commands/ranks.h"
#include "launch/trainer/model_source.h"
#include "launch/trainer/report.h"

namespace strait {
namespace {

constexpr int64_t kBufferElements = 1 << 18;

void require_dtype(const std::string& name) {
  for (const char* known : {"bf16", "fp32", "fp8"})
    if (name == known) return;
  throw RecipeError(fmt::format("--dtype: expected bf16, fp32 or fp8, got '{}'", name));
}

// The text of a source's tokenizer, which must be readable and fit the model; empty: it has none.
std::string tokenizer_of(const ModelSource& source) {
  if (!source.has_tokenizer()) {
    print_error(source.path() + ": has no tokenizer; the export has none either");
    return {};
  }
  source.tokenizer();
  return source.tokenizer_json();
}

void copy_tensor(ModelSource& source, const huggingface::TensorSpec& tensor,
                 std::vector<float>& buffer, huggingface::ModelFolderWriter& writer) {
  for (int64_t done = 0; done < tensor.numel(); done += kBufferElements) {
    const auto count = static_cast<size_t>(std::min(kBufferElements, tensor.numel() - done));
    const auto values = std::span(buffer).first(count);
    source.read(tensor.name, done, values);
    if (!std::ranges::all_of(values, [](float value) { return std::isfinite(value); }))
      throw NumericsError(
          fmt::format("{}: tensor {} has values that are not finite", source.path(), tensor.name));
    writer.append(tensor.name, values);
  }
}

}  // namespace

int run_export(const ExportOptions& options) {
  require_dtype(options.dtype);
  ModelSource source(options.from);
  for (const std::string& line : source.skipped()) print_error("passed over: " + line);
  {
    huggingface::ModelFolderWriter writer(
        options.to,
        {.settings = source.settings(),
         .dtype = options.dtype == "fp32" ? DType::f32 : DType::bf16,
         .fp8 = options.dtype == "fp8",
         .tokens = source.tokens(),
         .tokenizer_json = tokenizer_of(source),
         .sequence_length = source.sequence_length()},
        source.tensors());
    std::vector<float> buffer(static_cast<size_t>(kBufferElements));
    for (const huggingface::TensorSpec& tensor : source.tensors())
      copy_tensor(source, tensor, buffer, writer);
    writer.finish();
  }
  const huggingface::ModelFolderReader written(options.to);
  int64_t bytes = 0;
  for (const auto& [name, tensor] : written.tensors()) bytes += tensor.bytes;
  if (options.json) {
    const nlohmann::ordered_json json = {{"model", source.path()},
                                         {"folder", options.to},
                                         {"tensors", written.tensors().size()},
                                         {"bytes", bytes},
                                         {"dtype", options.dtype}};
    fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    return 0;
  }
  fmt::print("exported {} to {}: {} tensors, {} of {} weights\n", source.path(), options.to,
             written.tensors().size(), bytes_text(static_cast<double>(bytes)), options.dtype);
  return 0;
}

}  // namespace strait
