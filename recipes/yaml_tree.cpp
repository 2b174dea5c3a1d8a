#include "recipes/yaml_tree.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <sstream>

#include "data/tokenizer/utf8.h"

namespace strait {
namespace {

// Builds the tree from yaml-cpp's events. Its own nodes would hide doubled keys and aliases.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::string name, std::string kind, Problems& problems)
      : name_(std::move(name)), kind_(std::move(kind)), problems_(problems) {}

  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_anchor(mark, anchor);
    add_leaf(mark, {.kind = YamlNode::Kind::nothing});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    add_problem(problems_, at(mark),
                fmt::format("a {} has no aliases (*name); use extends or say it again", kind_));
    add_leaf(mark, {.kind = YamlNode::Kind::nothing});
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_anchor(mark, anchor);
    const bool quoted = tag == "!";  // how yaml-cpp marks a quoted scalar
    if (!quoted) refuse_tag(mark, tag);
    add_leaf(mark, {.kind = YamlNode::Kind::scalar, .text = value, .quoted = quoted});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::list);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::map);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlNode node;
    bool is_key = false;   // stands where a key should: read past, then dropped
    bool has_key = false;  // of a map: the next event is the value of key
    std::string key = {}, key_place = {};
  };

  std::string at(const YAML::Mark& mark) const {
    return fmt::format("{}:{}", name_, mark.line + 1);
  }

  void refuse_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0)
      add_problem(problems_, at(mark),
                  fmt::format("a {} has no anchors (&name); use extends or say it again", kind_));
  }
  void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!")
      add_problem(problems_, at(mark), fmt::format("a {} has no tags, got {}", kind_, tag));
  }

  bool expects_key() const {
    return !open_.empty() && open_.back().node.kind == YamlNode::Kind::map && !open_.back().has_key;
  }

  void add_leaf(const YAML::Mark& mark, YamlNode node) {
    if (expects_key()) {
      if (node.text.empty())
        add_problem(problems_, at(mark), "expected a key before the ':', got nothing");
      open_.back().has_key = true;
      open_.back().key = node.text;
      open_.back().key_place = at(mark);
      return;
    }
    node.place = at(mark);
    attach(std::move(node));
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
            YamlNode::Kind kind) {
    refuse_anchor(mark, anchor);
    refuse_tag(mark, tag);
    const bool is_key = expects_key();
    if (is_key) {
      add_problem(problems_, at(mark), "a key must be a word, not a list or a mapping");
      open_.back().has_key = true;
      open_.back().key.clear();
    }
    open_.push_back({.node = {.kind = kind, .place = at(mark)}, .is_key = is_key});
  }

  void close() {
    const Open closed = std::move(open_.back());
    open_.pop_back();
    if (!closed.is_key) attach(closed.node);
  }

  // Puts a finished node where it belongs: into the innermost open list or map, or at the root.
  void attach(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::map) {
      parent.has_key = false;
      node.key = parent.key;
      node.place = parent.key_place;
      if (node.key.empty()) return;  // already reported
      if (YamlNode* first = parent.node.find(node.key)) {
        add_problem(problems_, node.place,
                    fmt::format("key '{}' is here a second time; the first is at {}", node.key,
                                first->place));
        // What only the second one says is not missing.
        if (first->kind == YamlNode::Kind::map && node.kind == first->kind)
          merge_yaml(*first, node);
        return;
      }
    }
    parent.node.children.push_back(std::move(node));
  }

  const std::string name_, kind_;
  Problems& problems_;
  std::vector<Open> open_;
  YamlNode root_;
};

// yaml-cpp's own message about a line indented by a tab speaks of something else.
std::string tab_hint(const std::string& text, int line) {
  std::istringstream lines(text);
  std::string found;
  for (int i = 0; i <= line; ++i) std::getline(lines, found);
  const size_t start = found.find_first_not_of(" ");
  return start != std::string::npos && found[start] == '\t'
             ? "; the line is indented by a tab, YAML wants spaces"
             : "";
}

}  // namespace

const YamlNode* YamlNode::find(const std::string& wanted_key) const {
  for (const YamlNode& child : children)
    if (kind == Kind::map && child.key == wanted_key) return &child;
  return nullptr;
}

YamlNode* YamlNode::find(const std::string& wanted_key) {
  return const_cast<YamlNode*>(std::as_const(*this).find(wanted_key));
}

std::string shortened(const std::string& text) {
  if (text.size() <= 60) return text;
  size_t end = 57;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;  // whole characters
  return text.substr(0, end) + "...";
}

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::nothing:
      return "nothing";
    case YamlNode::Kind::list:
      return "a list";
    case YamlNode::Kind::map:
      return "a mapping";
    case YamlNode::Kind::scalar:
      break;
  }
  const std::string text = shortened(node.text);
  return node.quoted ? fmt::format("the quoted text \"{}\"", text) : fmt::format("'{}'", text);
}

std::optional<YamlNode> parse_yaml(const std::string& text, const std::string& name,
                                   const std::string& kind, Problems& problems) {
  const size_t before = problems.size();
  const auto refuse = [&](const std::string& place, const std::string& problem) {
    problems.resize(before);
    add_problem(problems, place, problem);
    return std::nullopt;
  };
  // yaml-cpp would guess another encoding, or put U+FFFD.
  if (const std::string problem = utf8_problem(text); !problem.empty()) {
    problems.push_back(name + ":" + problem);
    return std::nullopt;
  }
  if (const size_t zero = text.find('\0'); zero != std::string::npos)
    return refuse(name, fmt::format("not YAML: byte 0x00 at offset {}", zero));
  TreeBuilder builder(name, kind, problems), rest(name, kind, problems);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    if (parser.HandleNextDocument(rest))
      return refuse(
          name, fmt::format("a {} is one YAML document, this file has more (a line '---')", kind));
  } catch (const YAML::Exception& error) {
    const std::string place =
        error.mark.is_null()
            ? name
            : fmt::format("{}:{}:{}", name, error.mark.line + 1, error.mark.column + 1);
    return refuse(place, fmt::format("not YAML: {}{}", error.msg, tab_hint(text, error.mark.line)));
  }
  return builder.take_root();
}

void merge_yaml(YamlNode& base, const YamlNode& over) {
  if (base.kind != YamlNode::Kind::map || over.kind != YamlNode::Kind::map) {
    base = over;
    return;
  }
  for (const YamlNode& child : over.children) {
    if (YamlNode* same = base.find(child.key)) {
      merge_yaml(*same, child);
    } else {
      base.children.push_back(child);
    }
  }
}

}  // namespace strait
