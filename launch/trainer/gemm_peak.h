// launch/trainer/gemm_peak.h: what matrix products reach on this machine, as a yardstick for steps.
#pragma once

#include "core/dtype.h"

namespace strait {

// FLOP/s of one core: the best of many products with a packed weight, operands in cache. The best,
// as other processes may be at work, too. Takes 50 ms, or the time of two products.
double gemm_peak(DType compute);

}  // namespace strait
