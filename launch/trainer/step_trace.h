// launch/trainer/step_trace.h: a step that was run, as the spans that a simulated one has.
#pragma once

#include <cstdint>
#include <string>

#include "launch/engine/engine.h"
#include "parallel/comm/comm.h"
#include "parallel/sim/trace.h"

namespace strait {

// Collective. A moment that all ranks call zero, in nanoseconds of this host's steady clock: when
// the first rank of the host had seen that all are there. Hosts differ by the latency of an
// all-reduce.
int64_t common_zero(Comm& comm);

// Collective. The program that the engine ran last while it recorded spans, of all ranks, on
// rank 0; the others get a trace without spans. Microseconds from `zero_ns`.
Trace gather_trace(Comm& comm, const Engine& engine, std::string title, int64_t zero_ns);

}  // namespace strait
