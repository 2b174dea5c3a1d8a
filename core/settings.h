// core/settings.h: how a folder declares the settings of its own parts: a plain struct, and a table
// of its fields. From the table alone recipes/ reads, checks, writes and documents the struct, so
// no folder below knows YAML. A field's default is the value it has in a default-constructed
// struct.
//
//   struct TrainSettings { int64_t steps = 0; ... };
//   const SettingsTable& table_of(const TrainSettings*) {
//     static const SettingsTable table = {
//         {.name = "steps", .value = value_of<&TrainSettings::steps>, .unit = "steps",
//          .range = between(1, 1e12), .required = true, .doc = "Updates of the weights in the whole
//          run."},
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

namespace strait {

struct Field;
using SettingsTable = std::vector<Field>;

// What a number may be. An open end is excluded itself.
struct FieldRange {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool min_open = false, max_open = false;

  bool contains(double value) const {
    return (min_open ? value > min : value >= min) && (max_open ? value < max : value <= max);
  }
};
// "at least 1", "at least 0, below 1", "above 0"; empty: any.
std::string range_text(const FieldRange& range);
constexpr FieldRange between(double min, double max) { return {.min = min, .max = max}; }
constexpr FieldRange above_up_to(double min, double max) {
  return {.min = min, .max = max, .min_open = true};
}
constexpr FieldRange from_to_below(double min, double max) {
  return {.min = min, .max = max, .max_open = true};
}

// A settings struct inside another, and a list of them, seen through their table.
struct SettingsRef {
  void* settings = nullptr;
  const SettingsTable* table = nullptr;
};
struct SettingsListRef {
  void* list = nullptr;
  const SettingsTable* table = nullptr;
  void (*clear)(void* list) = nullptr;
  // A new entry with its defaults; earlier entries may move.
  SettingsRef (*append)(void* list) = nullptr;
  int64_t (*size)(const void* list) = nullptr;
  SettingsRef (*at)(void* list, int64_t index) = nullptr;
};

// Where a field's value lives, by its type.
using FieldValue = std::variant<int64_t*, double*, bool*, std::string*, std::vector<std::string>*,
                                SettingsRef, SettingsListRef>;

struct Field {
  const char* name = "";
  FieldValue (*value)(void* settings) = nullptr;  // value_of<&Struct::member>
  const char* unit = "";  // of a number: "tokens", "steps"; empty: a plain number
  FieldRange range = {};  // of a number
  // Of a text or of each entry of a list; empty: any. "file:PATH" stands for every text that begins
  // with "file:" and goes on.
  std::vector<std::string> choices = {};
  bool required = false;  // the recipe must say it
  // A figure of the real world: a number that a file writes with its unit and where it is from,
  // {value: 50 GB/s, source: "..."}. `unit` is then its unit here: "bytes/s", "FLOP/s", "s".
  bool sourced = false;
  const char* doc = "";  // one line
};

namespace settings_detail {

template <class S, class T>
S owner_of(T S::*);
template <class T>
struct ElementOf {};
template <class T>
struct ElementOf<std::vector<T>> {
  using type = T;
};

template <class T>
FieldValue value_at(T& member) {
  if constexpr (std::is_constructible_v<FieldValue, std::in_place_type_t<T*>, T*>) {
    return &member;
  } else if constexpr (requires { typename ElementOf<T>::type; }) {
    using Entry = typename ElementOf<T>::type;
    const SettingsTable& table = table_of(static_cast<const Entry*>(nullptr));
    return SettingsListRef{
        .list = &member,
        .table = &table,
        .clear = [](void* list) { static_cast<T*>(list)->clear(); },
        .append =
            [](void* list) {
              Entry& entry = static_cast<T*>(list)->emplace_back();
              return SettingsRef{&entry, &table_of(static_cast<const Entry*>(nullptr))};
            },
        .size = [](const void* list) { return int64_t(static_cast<const T*>(list)->size()); },
        .at =
            [](void* list, int64_t index) {
              Entry& entry = (*static_cast<T*>(list))[static_cast<size_t>(index)];
              return SettingsRef{&entry, &table_of(static_cast<const Entry*>(nullptr))};
            }};
  } else {
    return SettingsRef{&member, &table_of(static_cast<const T*>(nullptr))};
  }
}

}  // namespace settings_detail

// The Field::value of one data member: an integer, a real, a bool, a text, a list of texts, a
// settings struct that has a table_of, or a std::vector of one.
template <auto kMember>
FieldValue value_of(void* settings) {
  using S = decltype(settings_detail::owner_of(kMember));
  return settings_detail::value_at(static_cast<S*>(settings)->*kMember);
}

}  // namespace strait
