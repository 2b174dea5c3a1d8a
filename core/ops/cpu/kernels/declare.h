// core/ops/cpu/kernels/declare.h: puts one kernel signature into the namespace of every instruction
// set. Kernel headers include nothing but this and <cstdint>-free built-in types: long, float,
// unsigned short.
#pragma once

// AMX takes every kernel from AVX512 that it does not declare itself.
namespace strait::cpu::avx512 {}
namespace strait::cpu::amx {
using namespace strait::cpu::avx512;
}

#define STRAIT_CPU_DECLARE(signature) \
  namespace strait::cpu::portable {   \
  signature;                          \
  }                                   \
  namespace strait::cpu::avx2 {       \
  signature;                          \
  }                                   \
  namespace strait::cpu::avx512 {     \
  signature;                          \
  }

// For kernels that are also compiled for AMX.
#define STRAIT_CPU_DECLARE_WITH_AMX(signature) \
  STRAIT_CPU_DECLARE(signature)                \
  namespace strait::cpu::amx {                 \
  signature;                                   \
  }
