#include "core/ops/cpu/isa.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "core/errors.h"

namespace strait::cpu {

const char* name_of(Isa isa) {
  static constexpr const char* kNames[] = {"portable", "avx2", "avx512", "amx"};
  return kNames[static_cast<int>(isa)];
}

namespace {

// Linux saves tiles only for processes that asked for them. Old kernels, hypervisors that hide
// tiles and signal stacks too small to save them all make this fail.
bool may_use_tiles() {
  // By number: not every compiler has these names.
  constexpr unsigned kAmxBf16 = 1U << 22, kAmxTile = 1U << 24;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  if ((edx & kAmxBf16) == 0 || (edx & kAmxTile) == 0) return false;
  constexpr long kArchReqXcompPerm = 0x1023, kTileData = 18;
  return ::syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) == 0;
}

Isa detect_isa() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bf16"))
    return __builtin_cpu_supports("avx512vbmi") && may_use_tiles() ? Isa::amx : Isa::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
  return Isa::portable;
}

}  // namespace

Isa best_isa() {
  static const Isa best = detect_isa();
  return best;
}

Isa isa() {
  static const Isa chosen = [] {
    const Isa best = best_isa();
    const char* wish = std::getenv("STRAIT_CPU_ISA");
    if (wish == nullptr || *wish == '\0') return best;
    for (Isa candidate : {Isa::portable, Isa::avx2, Isa::avx512, Isa::amx}) {
      if (std::string(wish) != name_of(candidate)) continue;
      if (candidate > best)
        throw RecipeError(std::string("STRAIT_CPU_ISA=") + wish +
                          ": this machine supports at most " + name_of(best));
      return candidate;
    }
    throw RecipeError(std::string("STRAIT_CPU_ISA=") + wish +
                      ": unknown instruction set; use portable, avx2, avx512 or amx");
  }();
  return chosen;
}

}  // namespace strait::cpu
