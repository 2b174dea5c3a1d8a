// The page: what it embeds, decoded here by itself, is the trace; and it refers to nothing outside.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <regex>

#include "core/errors.h"
#include "launch/view/html.h"
#include "launch/view/trace_account.h"
#include "tests/launch/view_sample.h"

namespace strait {
namespace {

using Json = nlohmann::json;

std::string page_of(std::span<const Trace> traces) {
  std::ostringstream text;
  write_html(traces, text);
  return text.str();
}

std::vector<Json> embedded_in(const std::string& page) {
  static const std::string open = "<script type=\"application/json\" class=\"trace\">";
  std::vector<Json> result;
  for (size_t at = page.find(open); at != std::string::npos; at = page.find(open, at)) {
    at += open.size();
    result.push_back(Json::parse(page.substr(at, page.find("</script>", at) - at)));
  }
  return result;
}

std::vector<uint64_t> numbers_of(const std::string& base64) {
  static const std::string digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  EXPECT_EQ(base64.size() % 4, 0u);
  std::string bytes;
  uint32_t bits = 0;
  int num_bits = 0;
  for (const char c : base64) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<uint32_t>(digits.find(c));
    num_bits += 6;
    if (num_bits >= 8) bytes += static_cast<char>(bits >> (num_bits -= 8) & 255);
  }
  std::vector<uint64_t> numbers;
  uint64_t value = 0;
  int shift = 0;
  for (const char c : bytes) {
    value |= static_cast<uint64_t>(c & 127) << shift;
    shift += 7;
    if (c & 128) continue;
    numbers.push_back(value);
    value = 0;
    shift = 0;
  }
  return numbers;
}

struct Decoded {
  std::vector<Span> spans;
  std::map<int, std::array<std::vector<Stretch>, 3>>
      stretches;  // of each rank: hidden, exposed, bubbles
};

Decoded decode(const Json& json) {
  const std::vector<uint64_t> numbers = numbers_of(json.at("data"));
  size_t at = 0;
  const auto next = [&] { return numbers.at(at++); };
  const auto next_signed = [&] {
    const uint64_t value = next();
    return value % 2 == 1 ? -static_cast<int64_t>(value / 2) - 1 : static_cast<int64_t>(value / 2);
  };
  const double tick = json.at("tick");
  Decoded result;
  for (int g = 0; g < json.at("num_groups").get<int>(); ++g) {
    Span span;
    span.rank = static_cast<int>(next());
    span.lane = static_cast<Lane>(next());
    EXPECT_EQ(json.at("lanes").at(static_cast<size_t>(span.lane)), name_of(span.lane));
    uint64_t start = 0;
    for (uint64_t left = next(); left > 0; --left) {
      start += next();
      span.start_us = static_cast<double>(start) * tick;
      span.end_us = static_cast<double>(start + next()) * tick;
      span.name = json.at("names").at(next());
      span.kind = json.at("kinds").at(next());
      span.pass = static_cast<Pass>(next());
      EXPECT_EQ(json.at("passes").at(static_cast<size_t>(span.pass)), name_of(span.pass));
      span.chunk = static_cast<int>(next());
      span.microbatch = static_cast<int>(next_signed());
      span.layer = static_cast<int>(next_signed());
      span.pair = static_cast<int>(next_signed());
      span.bytes = next_signed();
      const bool literal = span.name[0] == '=';
      span.name.erase(0, 1);
      for (const auto& [mark, number] :
           {std::pair("{m}", span.microbatch), std::pair("{l}", span.layer)})
        for (size_t place = 0; !literal && (place = span.name.find(mark)) != std::string::npos;)
          span.name.replace(place, 3, std::to_string(number));
      result.spans.push_back(span);
    }
  }
  for (const Json& account : json.at("accounts"))
    for (auto& list : result.stretches[account.at("rank")]) {
      uint64_t time = 0;
      for (uint64_t left = next(); left > 0; --left) {
        const uint64_t start = time + next();
        time = start + next();
        list.push_back({static_cast<double>(start) * tick, static_cast<double>(time) * tick});
      }
    }
  EXPECT_EQ(at, numbers.size());
  return result;
}

using Key =
    std::tuple<int, int, double, std::string, std::string, int, int, int, int, int, int64_t>;
Key key_of(const Span& s, double start) {
  return {s.rank,       static_cast<int>(s.lane),
          start,        s.name,
          s.kind,       static_cast<int>(s.pass),
          s.microbatch, s.layer,
          s.chunk,      s.pair,
          s.bytes};
}

void expect_holds(const Json& json, const Trace& trace) {
  const TraceAccount account = account_of(trace);
  const double tick = json.at("tick");
  EXPECT_EQ(json.at("title"), trace.title);
  EXPECT_EQ(json.at("predicted"), trace.predicted);
  EXPECT_EQ(json.at("relative"), trace.relative);
  EXPECT_EQ(json.at("num_spans"), trace.spans.size());
  EXPECT_DOUBLE_EQ(json.at("end"), account.makespan_us());
  const Decoded decoded = decode(json);
  std::map<Key, std::vector<double>> expected, got;  // each span's end
  const auto rounded = [&](double time) {
    return std::round((time - account.start_us) / tick) * tick;
  };
  for (const Span& span : trace.spans)
    expected[key_of(span, rounded(span.start_us))].push_back(rounded(span.end_us));
  for (const Span& span : decoded.spans) got[key_of(span, span.start_us)].push_back(span.end_us);
  for (auto* both : {&expected, &got})
    for (auto& [key, ends] : *both) std::sort(ends.begin(), ends.end());
  EXPECT_TRUE(expected == got);
  EXPECT_EQ(decoded.spans.size(), trace.spans.size());

  ASSERT_EQ(json.at("accounts").size(), account.ranks.size());
  for (size_t i = 0; i < account.ranks.size(); ++i) {
    const RankAccount& rank = account.ranks[i];
    const Json& figures = json.at("accounts").at(i);
    EXPECT_EQ(figures.at("rank"), rank.rank);
    EXPECT_DOUBLE_EQ(figures.at("compute"), rank.account.compute_seconds * 1e6);
    EXPECT_DOUBLE_EQ(figures.at("transfer"), rank.account.transfer_seconds * 1e6);
    EXPECT_DOUBLE_EQ(figures.at("hidden"), rank.account.hidden_seconds * 1e6);
    EXPECT_DOUBLE_EQ(figures.at("exposed"), rank.account.exposed_seconds * 1e6);
    EXPECT_DOUBLE_EQ(figures.at("idle"), rank.account.idle_seconds * 1e6);
    // What is marked adds up to what is said.
    const double sums[] = {figures.at("hidden"), figures.at("exposed"), figures.at("idle")};
    for (size_t k = 0; k < 3; ++k) {
      const auto& list = decoded.stretches.at(rank.rank)[k];
      double sum = 0;
      for (const Stretch& stretch : list) sum += stretch.length_us();
      EXPECT_NEAR(sum, sums[k], tick * (1 + static_cast<double>(list.size())));
    }
  }
  EXPECT_DOUBLE_EQ(json.at("total").at("exposed"), account.total.exposed_seconds * 1e6);
  EXPECT_DOUBLE_EQ(json.at("total").at("idle"), account.total.idle_seconds * 1e6);
}

TEST(ViewHtml, HoldsEverySpanOnceAndTheSums) {
  for (uint32_t seed = 0; seed < 6; ++seed) {
    Trace trace = random_trace(seed);
    trace.relative = seed == 3;
    for (Span& span : trace.spans) {  // measured runs need not begin at 0
      span.start_us += seed * 1e9;
      span.end_us += seed * 1e9;
    }
    const std::vector<Json> embedded = embedded_in(page_of(std::span(&trace, 1)));
    ASSERT_EQ(embedded.size(), 1u);
    expect_holds(embedded[0], trace);
  }
}

TEST(ViewHtml, HoldsTracesBesideEachOther) {
  const std::vector<Trace> traces = {random_trace(0), random_trace(1)};
  const std::vector<Json> embedded = embedded_in(page_of(traces));
  ASSERT_EQ(embedded.size(), 2u);
  for (size_t i = 0; i < 2; ++i) expect_holds(embedded[i], traces[i]);
  std::vector<Trace> mixed = traces;
  mixed[1].relative = true;
  EXPECT_THROW(page_of(mixed), RecipeError);
}

TEST(ViewHtml, NeedsNothingOutsideItself) {
  Trace trace = random_trace(4);
  trace.title = "<b>bold</b> & </script>";
  const std::string page = page_of(std::span(&trace, 1));
  EXPECT_NE(page.find("<title>&lt;b>bold&lt;/b> &amp; &lt;/script></title>"), std::string::npos);
  EXPECT_EQ(page.find("</script> &"), std::string::npos);
  EXPECT_FALSE(std::regex_search(page, std::regex("(https?:)?//[a-z]+\\.[a-z]")));
  EXPECT_FALSE(
      std::regex_search(page, std::regex("<(link|script|img|iframe)[^>]* (src|href)=\"(?!data:)")));
  EXPECT_FALSE(
      std::regex_search(page, std::regex("@import|url\\(|fetch\\(|XMLHttpRequest|import\\(")));
  EXPECT_EQ(page.find("<!--"), std::string::npos);  // all places are filled
  EXPECT_EQ(page.find("/*styles*/"), std::string::npos);
  EXPECT_EQ(page.find("/*scripts*/"), std::string::npos);
}

TEST(ViewHtml, SaysPredictionOrMeasured) {
  for (const bool predicted : {true, false}) {
    Trace trace = random_trace(5);
    trace.predicted = predicted;
    EXPECT_EQ(embedded_in(page_of(std::span(&trace, 1)))[0].at("predicted"), predicted);
  }
}

// 16 positions x 120 micro-batches of four layers is about 200,000 spans.
TEST(ViewHtml, ALargeStepStaysSmall) {
  const Trace trace = random_trace(6, 16, 2100);
  ASSERT_GT(trace.spans.size(), 190000u);
  const std::string page = page_of(std::span(&trace, 1));
  EXPECT_LT(page.size(), 15u << 20);
}

}  // namespace
}  // namespace strait
