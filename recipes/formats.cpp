#include "recipes/formats.h"

namespace strait {
namespace {

bool is_fp8(const std::string& role, const Recipe& recipe) {
  return (role == "auto" ? recipe.train.precision : role) == "fp8";
}

}  // namespace

ModelFormats formats_of(const Recipe& recipe) {
  ModelFormats formats = recipe.train.precision == "fp32" ? DType::f32 : DType::bf16;
  if (is_fp8(recipe.formats.attention, recipe)) formats.attention = DType::e4m3;
  if (is_fp8(recipe.formats.mlp, recipe)) formats.mlp = DType::e4m3;
  if (is_fp8(recipe.formats.experts, recipe)) formats.experts = DType::e4m3;
  formats.gradient_blocks = recipe.formats.gradients == "128x128";
  return formats;
}

bool dispatches_fp8(const Recipe& recipe) {
  const std::string& wire = recipe.parallel.dispatch_wire;
  return wire == "fp8" || (wire == "auto" && formats_of(recipe).experts == DType::e4m3);
}

bool keeps_fp8(const Recipe& recipe) { return is_fp8(recipe.formats.caches, recipe); }

bool multiplies_fp8(const Recipe& recipe) {
  const ModelFormats f = formats_of(recipe);
  return f.attention == DType::e4m3 || f.mlp == DType::e4m3 || f.experts == DType::e4m3;
}

bool uses_fp8(const Recipe& recipe) {
  return multiplies_fp8(recipe) || keeps_fp8(recipe) || dispatches_fp8(recipe) ||
         recipe.parallel.combine_wire == "fp8";
}

}  // namespace strait
