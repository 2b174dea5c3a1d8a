#include "core/ops/cpu/isa.h"

#include <cstdlib>
#include <string>

#include "core/errors.h"

namespace strait::cpu {

const char* name_of(Isa isa) {
  static constexpr const char* kNames[] = {"portable", "avx2", "avx512"};
  return kNames[static_cast<int>(isa)];
}

Isa best_isa() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bf16"))
    return Isa::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
  return Isa::portable;
}

Isa isa() {
  static const Isa chosen = [] {
    const Isa best = best_isa();
    const char* wish = std::getenv("STRAIT_CPU_ISA");
    if (wish == nullptr || *wish == '\0') return best;
    for (Isa candidate : {Isa::portable, Isa::avx2, Isa::avx512}) {
      if (std::string(wish) != name_of(candidate)) continue;
      if (candidate > best)
        throw RecipeError(std::string("STRAIT_CPU_ISA=") + wish +
                          ": this machine supports at most " + name_of(best));
      return candidate;
    }
    throw RecipeError(std::string("STRAIT_CPU_ISA=") + wish +
                      ": unknown instruction set; use portable, avx2 or avx512");
  }();
  return chosen;
}

}  // namespace strait::cpu
