// recipes/key_places.h: where each key of a loaded file was said.
#pragma once

#include <map>
#include <string>

namespace strait {

// "model.hidden_size" -> "recipes/x.yaml:17" or "--set model.hidden_size=256". Not part of what a
// file says: any two compare equal.
struct KeyPlaces {
  std::string file;                       // empty for settings made in code
  std::map<std::string, std::string> at;  // keys left at their default are absent

  // The key's place, or that of the closest thing around it that has one.
  std::string of(const std::string& key) const;
  bool operator==(const KeyPlaces&) const { return true; }
};

}  // namespace strait
