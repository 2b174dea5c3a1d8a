// core/ops/math/exp.h: exp of one FP32 number with the bits of the CPU's vector code (on machines
// with fused multiply-add) and of every other device that includes this file.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/ops/math/host_device.h"

namespace strait {

// Relative error below 1e-7; 0 below -87.3, infinite above 88.722839, NaN stays NaN. vexp of
// core/ops/cpu/kernels/vec.inc says how.
STRAIT_HD inline float exp_f32(float x) {
  if (x != x) return x;
  if (x < -87.3f) return 0.0f;
  if (x > 88.722839f) return HUGE_VALF;
  const float magic = 12582912.0f;  // 1.5 * 2^23
  const float n = fmaf(x, 1.44269504088896341f, magic) - magic;
  const float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, x));
  float p = 0x1.6a23dp-10f;
  p = fmaf(p, r, 0x1.123a2p-7f);
  p = fmaf(p, r, 0x1.5558f2p-5f);
  p = fmaf(p, r, 0x1.555492p-3f);
  p = fmaf(p, r, 0x1.fffffcp-2f);
  p = fmaf(p, r * r, r) + 1.0f;
  return ldexpf(p, static_cast<int>(n));
}

}  // namespace strait
