// core/ops/math/rope.h: one element of a rotated pair; the definition that every device follows.
#pragma once

#include "core/ops/math/formula.h"

namespace strait {

// `other` is the pair's other element; signed_sine is the sine, negative for the pair's first.
template <class N>
STRAIT_FORMULA typename N::F rope_element(typename N::F x, typename N::F other,
                                          typename N::F cosine, typename N::F signed_sine) {
  return N::fma(x, cosine, other * signed_sine);
}

}  // namespace strait
