#include "data/tokenizer/pre_tokenizer.h"

#include <algorithm>

#include "data/tokenizer/unicode_gap.h"

namespace strait {

const char* const kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

struct Part {
  Match range;
  bool matches = false;
};

// A text and the form of it that patterns are matched against; the same offsets.
struct Piece {
  std::string_view text, seen;
  Piece sub(Match range) const {
    return {text.substr(range.begin, range.end - range.begin),
            seen.substr(range.begin, range.end - range.begin)};
  }
};

// Calls part(Part) for consecutive parts that cover the piece, matching and not.
template <class OnPart>
void for_each_part(const SplitStage& stage, Matcher& matcher, const Piece& piece,
                   const OnPart& part) {
  Matches matches(stage.pattern, matcher, piece.seen);
  size_t at = 0;
  for (Match match; matches.next(match); at = match.end) {
    if (match.begin != at) part(Part{{at, match.begin}, stage.invert});
    part(Part{match, !stage.invert});
  }
  if (at != piece.text.size()) part(Part{{at, piece.text.size()}, stage.invert});
}

// The three behaviours that join neighbouring parts.
std::vector<Match> joined(const std::vector<Part>& parts, SplitBehavior behavior) {
  std::vector<Match> ranges;
  bool previous = false;
  const auto take = [&](const Part& part) {
    const bool joins = behavior == SplitBehavior::contiguous ? part.matches == previous
                                                             : part.matches && !previous;
    if (!joins || ranges.empty())
      ranges.push_back(part.range);
    else if (behavior == SplitBehavior::merged_with_next)
      ranges.back().begin = part.range.begin;
    else
      ranges.back().end = part.range.end;
    previous = part.matches;
  };
  if (behavior == SplitBehavior::merged_with_next) {
    std::for_each(parts.rbegin(), parts.rend(), take);
    std::reverse(ranges.begin(), ranges.end());
  } else {
    std::for_each(parts.begin(), parts.end(), take);
  }
  return ranges;
}

class Splitter {
 public:
  Splitter(const std::vector<SplitStage>& stages, Matcher& matcher,
           const std::function<void(std::string_view)>& word)
      : stages_(stages), matcher_(matcher), word_(word) {}

  void run(size_t index, const Piece& piece) {
    if (piece.text.empty()) return;
    if (index == stages_.size()) return word_(piece.text);
    const SplitStage& stage = stages_[index];
    if (stage.space_before && piece.text[0] != ' ') {
      const std::string text = std::string(" ").append(piece.text);
      const std::string seen = std::string(" ").append(piece.seen);
      return cut(index, {text, seen});
    }
    cut(index, piece);
  }

 private:
  void cut(size_t index, const Piece& piece) {
    const SplitStage& stage = stages_[index];
    if (!stage.splits) return run(index + 1, piece);
    if (stage.behavior == SplitBehavior::isolated || stage.behavior == SplitBehavior::removed) {
      for_each_part(stage, matcher_, piece, [&](const Part& part) {
        if (stage.behavior == SplitBehavior::isolated || !part.matches)
          run(index + 1, piece.sub(part.range));
      });
      return;
    }
    std::vector<Part> parts;
    for_each_part(stage, matcher_, piece, [&](const Part& part) { parts.push_back(part); });
    for (const Match& range : joined(parts, stage.behavior)) run(index + 1, piece.sub(range));
  }

  const std::vector<SplitStage>& stages_;
  Matcher& matcher_;
  const std::function<void(std::string_view)>& word_;
};

}  // namespace

void PreTokenizer::split(std::string_view text, Matcher& matcher,
                         const std::function<void(std::string_view)>& word) const {
  std::string storage;
  Splitter(stages_, matcher, word).run(0, {text, as_patterns_see(text, storage)});
}

}  // namespace strait
