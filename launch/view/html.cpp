#include "launch/view/html.h"

#include <fmt/format.h>

#include <string_view>

#include "core/errors.h"
#include "data/tokenizer/utf8.h"
#include "launch/view/page_data.h"
#include "launch/view/page_template.h"

namespace strait {
namespace {

std::string html_text(const std::string& text) {
  std::string result;
  for (const char c : with_replacements(text)) {
    if (c == '&') {
      result += "&amp;";
    } else if (c == '<') {
      result += "&lt;";
    } else {
      result += c;
    }
  }
  return result;
}

// What comes before the mark; `rest` becomes what comes after it.
std::string_view up_to(std::string_view mark, std::string_view& rest) {
  const size_t at = rest.find(mark);
  STRAIT_CHECK(at != std::string_view::npos, fmt::format("the page has no {}", mark));
  const std::string_view before = rest.substr(0, at);
  rest.remove_prefix(at + mark.size());
  return before;
}

}  // namespace

void write_html(std::span<const Trace> traces, std::ostream& out) {
  STRAIT_CHECK(!traces.empty(), "a page of no traces");
  for (const Trace& trace : traces)
    if (trace.relative != traces.front().relative)
      throw RecipeError(fmt::format(
          "[draw] '{}' counts microseconds and '{}' a schedule's units: they have no common axis",
          trace.relative ? traces.front().title : trace.title,
          trace.relative ? trace.title : traces.front().title));
  std::string_view page = kPageTemplate;
  out << up_to("<!--title-->", page) << html_text(traces.front().title);
  out << up_to("<!--traces-->", page);
  for (const Trace& trace : traces)
    out << "<script type=\"application/json\" class=\"trace\">" << page_data(trace)
        << "</script>\n";
  out << page;
}

void write_html(const Trace& trace, std::ostream& out) { write_html(std::span(&trace, 1), out); }

}  // namespace strait
