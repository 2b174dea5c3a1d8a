// A small whole recipe for tests, and a way to change one line of it.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "core/errors.h"
#include "recipes/recipe.h"

namespace strait {

inline const std::string kWholeRecipe =
    "model:\n"                       // 1
    "  vocab_size: 64\n"             // 2
    "  hidden_size: 32\n"            // 3
    "  num_hidden_layers: 3\n"       // 4
    "  first_k_dense_replace: 1\n"   // 5
    "  num_attention_heads: 2\n"     // 6
    "  kv_lora_rank: 16\n"           // 7
    "  qk_nope_head_dim: 8\n"        // 8
    "  qk_rope_head_dim: 4\n"        // 9
    "  v_head_dim: 8\n"              // 10
    "  intermediate_size: 64\n"      // 11
    "  moe_intermediate_size: 16\n"  // 12
    "  n_routed_experts: 8\n"        // 13
    "  num_experts_per_tok: 2\n"     // 14
    "schedule:\n"                    // 15
    "  peak_lr: 1e-3\n"              // 16
    "train:\n"                       // 17
    "  steps: 100\n"                 // 18
    "  global_batch: 8\n"            // 19
    "  sequence_length: 32\n"        // 20
    "data:\n"                        // 21
    "  corpus: corpus\n";            // 22

// kWholeRecipe with `from` replaced; the lines after it keep their numbers if `to` has as many
// lines.
inline std::string changed(const std::string& from, const std::string& to) {
  std::string text = kWholeRecipe;
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

// What the RecipeError says, or "loaded".
inline std::string problems_of(const std::string& text,
                               const std::vector<std::string>& overrides = {}) {
  try {
    read_recipe(text, "x.yaml", overrides);
  } catch (const RecipeError& error) {
    return error.what();
  }
  return "loaded";
}

}  // namespace strait
