#include "parallel/mesh/groups.h"

#include <algorithm>
#include <utility>

#include "core/errors.h"

namespace strait {

const char* name_of(GroupKind kind) {
  switch (kind) {
    case GroupKind::world:
      return "world";
    case GroupKind::pipeline:
      return "pipeline";
    case GroupKind::data:
      return "data";
    case GroupKind::expert:
      return "expert";
    case GroupKind::replicas:
      return "replicas";
    case GroupKind::node:
      return "node";
    case GroupKind::rail:
      return "rail";
    case GroupKind::custom:
      return "custom";
  }
  return "?";
}

Group::Group(GroupKind kind, std::vector<Rank> ranks, Rank self, int number)
    : kind_(kind), number_(number), self_(-1), ranks_(std::move(ranks)) {
  STRAIT_CHECK(number >= 0 && (number == 0 || kind == GroupKind::custom),
               "only custom groups are numbered");
  std::vector<Rank> sorted = ranks_;
  std::sort(sorted.begin(), sorted.end());
  STRAIT_CHECK(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(),
               name() + " names a rank twice");
  self_ = position_of(self);
  STRAIT_CHECK(self_ >= 0, name() + " lacks rank " + std::to_string(self.value));
}

int Group::position_of(Rank rank) const {
  const auto found = std::find(ranks_.begin(), ranks_.end(), rank);
  return found == ranks_.end() ? -1 : static_cast<int>(found - ranks_.begin());
}

std::string Group::name() const {
  std::string text = std::string(name_of(kind_)) + " group {";
  for (size_t i = 0; i < ranks_.size(); ++i) {
    if (i > 0) text += ", ";
    if (i == 8 && ranks_.size() > 9)
      return text + "... " + std::to_string(ranks_.size()) + " ranks}";
    text += std::to_string(ranks_[i].value);
  }
  return text + "}";
}

}  // namespace strait
