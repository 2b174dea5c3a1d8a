// launch/view/json_text.h: JSON values as text, for files that are written as a stream.
#pragma once

#include <string>
#include <string_view>

namespace strait {

// With its quotes. Bytes that are not UTF-8 become U+FFFD; "</" is written "<\/", so that the text
// may stand inside an HTML script.
std::string json_quoted(std::string_view text);

// The shortest decimal that reads back as the same double. REQUIRES: finite.
std::string json_number(double value);

}  // namespace strait
