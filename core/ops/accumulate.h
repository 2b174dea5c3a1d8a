// core/ops/accumulate.h: whether an op replaces its output or adds to it.
#pragma once

namespace strait {

enum class Accumulate : bool { no, yes };

}  // namespace strait
