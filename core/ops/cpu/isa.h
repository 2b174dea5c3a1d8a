// core/ops/cpu/isa.h: which instruction set the CPU kernels of this process use.
#pragma once

#include <cstdint>

namespace strait::cpu {

// avx2 needs FMA and F16C; avx512 needs F, BW, VL, DQ, BF16. amx is avx512 with TILE and BF16 of
// AMX for BF16 products, and needs a kernel that lets this process use tiles.
enum class Isa : uint8_t { portable, avx2, avx512, amx };

const char* name_of(Isa isa);
// The best this machine supports. The first call asks the kernel for the use of AMX's tiles, for
// all threads of the process.
Isa best_isa();
// best_isa(), or the weaker one named by the environment variable STRAIT_CPU_ISA ("portable",
// "avx2", "avx512", "amx"). Read once. Throws RecipeError when the name is unknown or the machine
// lacks it.
Isa isa();

}  // namespace strait::cpu

// Picks the kernel of the instruction set in use: every kernel exists once per namespace.
//   STRAIT_CPU_KERNEL(rms_norm_f32)(x, rows, ...);
#define STRAIT_CPU_KERNEL(name)                                                       \
  (::strait::cpu::isa() == ::strait::cpu::Isa::amx      ? ::strait::cpu::amx::name    \
   : ::strait::cpu::isa() == ::strait::cpu::Isa::avx512 ? ::strait::cpu::avx512::name \
   : ::strait::cpu::isa() == ::strait::cpu::Isa::avx2   ? ::strait::cpu::avx2::name   \
                                                        : ::strait::cpu::portable::name)
