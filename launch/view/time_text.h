// launch/view/time_text.h: a time of a trace for people.
#pragma once

#include <string>

namespace strait {

// "32.3 ms", "-1.25 s", "0"; of a relative trace the plain number: "66".
std::string time_text(double us, bool relative);

}  // namespace strait
