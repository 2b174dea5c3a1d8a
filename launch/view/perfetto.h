// launch/view/perfetto.h: traces as files that Perfetto and chrome://tracing open, and back.
//
// The Trace Event Format with complete events ("X"): process = rank (of a priced step: pipeline
// position), thread = lane, times in microseconds. `cat` is the kind; args hold kind, pass and,
// where they are known, microbatch, layer, chunk, pair and bytes. otherData comes first: {"format":
// "strait trace", "version": 1, "title", "source": "prediction" or "measured", "time":
// "microseconds" or "relative"}. Source: "Trace Event Format", Google, 2016.
#pragma once

#include <ostream>
#include <string>

#include "parallel/sim/trace.h"

namespace strait {

// One event per line, as a stream. An event has a start and a duration, so a span's end may come
// back changed in the last place of a double; all else comes back as it was.
void write_perfetto(const Trace& trace, std::ostream& out);

// Spans in the order of the file. Errors: DataError that names the file and the event when it
// cannot be read, is cut short, is no trace of Strait, has no span, or a span that cannot be.
Trace read_perfetto(const std::string& path);

// "forward", "input_gradient", "weight_gradient": as traces spell a pass.
const char* name_of(Pass pass);

}  // namespace strait
