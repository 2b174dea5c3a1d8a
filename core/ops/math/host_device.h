// core/ops/math/host_device.h: marks per-element maths that CPU and GPU share.
#pragma once

#ifdef __CUDACC__
#define STRAIT_HD __host__ __device__
#else
#define STRAIT_HD
#endif
