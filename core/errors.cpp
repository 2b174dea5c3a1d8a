#include "core/errors.h"

namespace strait {

void throw_internal(const char* file, int line, const char* condition, const std::string& message) {
  std::string text =
      std::string(file) + ":" + std::to_string(line) + ": check failed: " + condition;
  if (!message.empty()) text += ": " + message;
  throw InternalError(text);
}

}  // namespace strait
