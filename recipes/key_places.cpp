#include "recipes/key_places.h"

namespace strait {

std::string KeyPlaces::of(const std::string& key) const {
  for (std::string inner = key; !inner.empty();) {
    if (const auto found = at.find(inner); found != at.end()) return found->second;
    const size_t end = inner.find_last_of(".[");
    inner.resize(end == std::string::npos ? 0 : end);
  }
  return file.empty() ? "recipe" : file;
}

}  // namespace strait
