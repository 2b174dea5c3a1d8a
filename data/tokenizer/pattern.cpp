#include "data/tokenizer/pattern.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "core/errors.h"
#include "data/tokenizer/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace strait {
namespace {

// Oniguruma's \w: letters, marks, decimal digits, connectors (PCRE2's knows no marks and other
// numbers instead). Outside a set it also takes Latin-1's raised digits and fractions.
constexpr const char* kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr const char* kLoneWord =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";

std::string property(const std::string& name, bool negated, const std::string& source) {
  static constexpr std::array<std::pair<const char*, const char*>, 14> kLongNames = {
      {{"Letter", "L"},
       {"Mark", "M"},
       {"Number", "N"},
       {"Punctuation", "P"},
       {"Symbol", "S"},
       {"Separator", "Z"},
       {"Other", "C"},
       {"Uppercase_Letter", "Lu"},
       {"Lowercase_Letter", "Ll"},
       {"Titlecase_Letter", "Lt"},
       {"Modifier_Letter", "Lm"},
       {"Other_Letter", "Lo"},
       {"Nonspacing_Mark", "Mn"},
       {"Decimal_Number", "Nd"}}};
  std::string plain = name;
  if (!plain.empty() && plain[0] == '^') {
    negated = !negated;
    plain.erase(0, 1);
  }
  if (plain.empty()) throw DataError(fmt::format("pattern \"{}\": empty \\p{{}}", source));
  for (const auto& [full, brief] : kLongNames)
    if (plain == full) plain = brief;
  // Longer names are scripts: PCRE2's \p{Han} also takes script extensions, Oniguruma's does not.
  if (plain.size() > 2 && plain != "Any") plain = "sc:" + plain;
  return fmt::format("\\{}{{{}}}", negated ? 'P' : 'p', plain);
}

// Copies one escape sequence that begins at source[at] and returns where it ends.
size_t translate_escape(const std::string& source, size_t at, bool in_set, std::string& to) {
  if (at + 1 >= source.size())
    throw DataError(fmt::format("pattern \"{}\" ends in a backslash", source));
  const char kind = source[at + 1];
  const auto put = [&](const std::string& text) {
    to += text;
    return at + 2;
  };
  if (kind == 'h') return put(in_set ? "0-9A-Fa-f" : "[0-9A-Fa-f]");
  if (kind == 'w') return put(in_set ? kWord : fmt::format("[{}]", kLoneWord));
  if (kind == 'W' && !in_set) return put(fmt::format("[^{}]", kLoneWord));
  if (kind == 'H' && !in_set) return put("[^0-9A-Fa-f]");
  if (kind == 'b' && !in_set)
    return put(fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", kLoneWord));
  if (kind == 'B' && !in_set)
    return put(fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", kLoneWord));
  if ((kind == 'p' || kind == 'P') && at + 2 < source.size() && source[at + 2] == '{') {
    const size_t close = source.find('}', at);
    if (close == std::string::npos)
      throw DataError(fmt::format("pattern \"{}\": \\p{{ without }}", source));
    to += property(source.substr(at + 3, close - at - 3), kind == 'P', source);
    return close + 1;
  }
  if (kind == 'W' || kind == 'H' || kind == 'R' || kind == 'X' || kind == 'G' || kind == 'K')
    throw DataError(fmt::format("pattern \"{}\": \\{} is not supported here", source, kind));
  to.append(source, at, 2);
  return at + 2;
}

// A POSIX class in a set ("digit", "^upper"), as Oniguruma means it: in Unicode's sense.
std::string posix_class(const std::string& name, const std::string& source) {
  static constexpr std::array<std::pair<const char*, const char*>, 4> kClasses = {
      {{"upper", "{Uppercase}"}, {"digit", "{Nd}"}, {"cntrl", "{Cc}"}, {"space", "{White_Space}"}}};
  const bool negated = name.starts_with('^');
  for (const auto& [known, members] : kClasses)
    if (name.substr(negated ? 1 : 0) == known)
      return fmt::format("\\{}{}", negated ? 'P' : 'p', members);
  throw DataError(fmt::format("pattern \"{}\": [:{}:] is not supported here", source, name));
}

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};

std::string message_of(int error) {
  std::array<char, 256> text{};
  pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(text.data()), text.size());
  return text.data();
}

}  // namespace

std::string pcre2_of_oniguruma(const std::string& source) {
  std::string to;
  bool in_set = false;
  for (size_t at = 0; at < source.size();) {
    const char next = source[at];
    if (next == '\\') {
      at = translate_escape(source, at, in_set, to);
      continue;
    }
    if (in_set && next == '[') {
      const size_t close = source.find(":]", at);
      if (at + 1 >= source.size() || source[at + 1] != ':' || close == std::string::npos)
        throw DataError(fmt::format("pattern \"{}\": a set inside a set is not supported", source));
      to += posix_class(source.substr(at + 2, close - at - 2), source);
      at = close + 2;
      continue;
    }
    if (in_set && next == '&' && at + 1 < source.size() && source[at + 1] == '&')
      throw DataError(fmt::format("pattern \"{}\": && in a set is not supported", source));
    if (next == '[') {
      in_set = true;
    } else if (next == ']') {
      in_set = false;
    }
    to.push_back(next);
    ++at;
  }
  return to;
}

struct Pattern::Code {
  std::unique_ptr<pcre2_code, FreeCode> compiled;
};

struct Matcher::State {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(size_t{32} << 10, size_t{8} << 20, nullptr);
  State() { pcre2_jit_stack_assign(context, nullptr, stack); }
  State(const State&) = delete;
  ~State() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
};

Matcher::Matcher() : state_(std::make_unique<State>()) {}
Matcher::~Matcher() = default;
Matcher::Matcher(Matcher&&) noexcept = default;
Matcher& Matcher::operator=(Matcher&&) noexcept = default;

Pattern::Pattern(std::string source, const std::string& translated) : source_(std::move(source)) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  // Oniguruma's ^ and $ match at every line.
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, context);
  pcre2_compile_context_free(context);
  if (code == nullptr)
    throw DataError(fmt::format("pattern \"{}\": {} (at {} of \"{}\")", source_, message_of(error),
                                offset, translated));
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without a JIT pcre2_match() interprets
  auto owned = std::make_shared<Code>();
  owned->compiled.reset(code);
  code_ = std::move(owned);
}

Pattern Pattern::regex(const std::string& source) {
  return Pattern(source, pcre2_of_oniguruma(source));
}

Pattern Pattern::literal(const std::string& text) {
  std::string escaped;
  for (const char byte : text) {
    const auto value = static_cast<unsigned char>(byte);
    if (value < 0x80 &&
        std::string_view("\\^$.[]|()?*+{}-#&~ ").find(byte) != std::string_view::npos)
      escaped.push_back('\\');
    escaped.push_back(byte);
  }
  return Pattern(text, escaped);
}

bool Pattern::find(Matcher& matcher, std::string_view seen, size_t from, Match& match) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(seen.data());
  Matcher::State& state = *matcher.state_;
  int found = pcre2_match(code_->compiled.get(), subject, seen.size(), from, PCRE2_NO_UTF_CHECK,
                          state.data, state.context);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT)
    found = pcre2_match(code_->compiled.get(), subject, seen.size(), from,
                        PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state.data, state.context);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0)
    throw DataError(
        fmt::format("pattern \"{}\": {} (at byte {} of a text)", source_, message_of(found), from));
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state.data);
  match = {bounds[0], bounds[1]};
  return true;
}

bool Matches::next(Match& match) {
  while (from_ <= seen_.size()) {
    if (!pattern_.find(matcher_, seen_, from_, match)) break;
    if (match.begin != match.end || match.end != last_end_) {
      from_ = last_end_ = match.end;
      return true;
    }
    from_ += from_ < seen_.size() ? static_cast<size_t>(code_point_at(seen_, from_).num_bytes) : 1;
  }
  from_ = seen_.size() + 1;
  return false;
}

}  // namespace strait
