// launch/view/html.h: traces as one web page that needs nothing outside itself and works from a
// file.
#pragma once

#include <ostream>
#include <span>

#include "parallel/sim/trace.h"

namespace strait {

// Traces stand one below the other on a common time axis, each from the start of its first span.
// Errors: RecipeError when some count microseconds and others a schedule's units.
void write_html(std::span<const Trace> traces, std::ostream& out);  // REQUIRES: not empty
void write_html(const Trace& trace, std::ostream& out);

}  // namespace strait
