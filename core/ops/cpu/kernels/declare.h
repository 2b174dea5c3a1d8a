// core/ops/cpu/kernels/declare.h: puts one kernel signature into the namespace of every instruction
// set. Kernel headers include nothing but this and <cstdint>-free built-in types: long, float,
// unsigned short.
#pragma once

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
