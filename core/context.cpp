#include "core/context.h"

#include <cstring>

namespace strait {

Tensor Context::zeros(Shape shape, DType dtype, Purpose purpose) {
  Tensor tensor = empty(shape, dtype, purpose);
  run({.flops = 0, .bytes = static_cast<double>(tensor.bytes())}, [&] {
    if (!tensor.untouched() && tensor.bytes() > 0)
      std::memset(tensor.raw(), 0, static_cast<size_t>(tensor.bytes()));
  });
  return tensor;
}

}  // namespace strait
