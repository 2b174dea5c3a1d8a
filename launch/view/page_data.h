// launch/view/page_data.h: a trace as the page reads it: one JSON object, small enough that a step
// of 200,000 spans stays in a few megabytes.
//
// Members: title, predicted, relative, tick (one tick in the trace's time), end (length of the
// step), num_spans, num_groups, lanes and passes (their names), kinds (of spans), names (of spans:
// "=" and the name, or "~" and the name with {m} and {l} wherever its micro-batch and layer stood),
// accounts (one per rank, RankAccount's figures), total (the same for the sums over ranks), data.
// `data` is base64 of unsigned LEB128 numbers. First num_groups groups, each the spans of one rank
// and lane by start: rank, lane, number of spans, then per span: start in ticks after the previous
// start of the group (the first: after the step's start), length in ticks, name, kind, pass, chunk,
// and micro-batch, layer, pair, bytes in zigzag order (0, -1, 1, -2, ... are 0, 1, 2, 3, ...). Then
// per account the stretches hidden, exposed and bubbles: how many, and each one's start in ticks
// after the previous one's end, and length.
#pragma once

#include <string>

#include "parallel/sim/trace.h"

namespace strait {

std::string page_data(const Trace& trace);

}  // namespace strait
