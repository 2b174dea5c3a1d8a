#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "launch/view/perfetto.h"

namespace strait {
namespace {

using Json = nlohmann::json;

constexpr int kMaxRank = 1 << 20;
constexpr int kVersion = 1;

// What is wrong with a value; the reader says where.
struct Wrong {
  std::string text;
};

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

const Json& member(const Json& object, const char* key, const char* path) {
  if (!object.is_object() || !object.contains(key)) throw Wrong{fmt::format("has no {}", path)};
  return object.at(key);
}

std::string text_of(const Json& object, const char* key, const char* path) {
  const Json& value = member(object, key, path);
  if (!value.is_string())
    throw Wrong{fmt::format("{} is {}, a text was expected", path, shown(value))};
  return value.get<std::string>();
}

double time_of(const Json& object, const char* key) {
  const Json& value = member(object, key, key);
  if (!value.is_number() || !std::isfinite(value.get<double>()))
    throw Wrong{fmt::format("{} is {}, microseconds were expected", key, shown(value))};
  return value.get<double>();
}

int64_t integer_of(const Json& value, const char* path, int64_t low, int64_t high) {
  // Some writers give whole numbers as 3.0.
  const bool whole =
      value.is_number_integer() ||
      (value.is_number_float() && value.get<double>() == std::floor(value.get<double>()) &&
       std::fabs(value.get<double>()) < 9e15);
  const bool fits = whole && (!value.is_number_unsigned() ||
                              value.get<uint64_t>() <= static_cast<uint64_t>(high));
  if (!fits || value.get<int64_t>() < low || value.get<int64_t>() > high)
    throw Wrong{fmt::format("{} is {}, a whole number from {} to {} was expected", path,
                            shown(value), low, high)};
  return value.get<int64_t>();
}

int optional_int(const Json& args, const char* key, const char* path, int missing) {
  const auto at = args.find(key);
  if (at == args.end()) return missing;
  return static_cast<int>(integer_of(*at, path, missing, std::numeric_limits<int>::max()));
}

Pass pass_named(const std::string& name) {
  for (const Pass pass : {Pass::forward, Pass::input_gradient, Pass::weight_gradient})
    if (name == name_of(pass)) return pass;
  throw Wrong{fmt::format(
      "args.pass is '{}'; forward, input_gradient or weight_gradient was expected", name)};
}

Span span_of(const Json& event) {
  Span span;
  span.rank = static_cast<int>(integer_of(member(event, "pid", "pid"), "pid", 0, kMaxRank));
  span.lane = static_cast<Lane>(integer_of(member(event, "tid", "tid"), "tid", 1, kNumLanes) - 1);
  span.name = text_of(event, "name", "name");
  span.start_us = time_of(event, "ts");
  const double duration = time_of(event, "dur");
  if (duration < 0) throw Wrong{fmt::format("dur is {}, less than nothing", duration)};
  span.end_us = span.start_us + duration;
  const Json& args = member(event, "args", "args");
  span.kind = text_of(args, "kind", "args.kind");
  span.pass = pass_named(text_of(args, "pass", "args.pass"));
  span.microbatch = optional_int(args, "microbatch", "args.microbatch", -1);
  span.layer = optional_int(args, "layer", "args.layer", -1);
  span.chunk = optional_int(args, "chunk", "args.chunk", 0);
  span.pair = optional_int(args, "pair", "args.pair", -1);
  const auto bytes = args.find("bytes");
  if (bytes != args.end())
    span.bytes = integer_of(*bytes, "args.bytes", 0, std::numeric_limits<int64_t>::max());
  return span;
}

void read_head(const Json& other, Trace& trace) {
  if (!other.is_object() || other.value("format", Json()) != "strait trace")
    throw Wrong{"otherData.format is not \"strait trace\""};
  const int64_t version =
      integer_of(member(other, "version", "otherData.version"), "otherData.version", 0, 1 << 20);
  if (version != kVersion)
    throw Wrong{fmt::format("otherData.version is {}, this program reads {}", version, kVersion)};
  trace.title = text_of(other, "title", "otherData.title");
  const std::string source = text_of(other, "source", "otherData.source");
  if (source != "prediction" && source != "measured")
    throw Wrong{
        fmt::format("otherData.source is '{}'; prediction or measured was expected", source)};
  trace.predicted = source == "prediction";
  const std::string time = text_of(other, "time", "otherData.time");
  if (time != "microseconds" && time != "relative")
    throw Wrong{fmt::format("otherData.time is '{}'; microseconds or relative was expected", time)};
  trace.relative = time == "relative";
}

// Takes the file's parts as the parser finishes them, so that events never pile up as JSON.
class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path) {}

  // Whether the parser should keep what it has just read.
  bool take(int depth, Json::parse_event_t event, const Json& parsed) {
    if (depth == 1 && event == Json::parse_event_t::key) key_ = parsed.get<std::string>();
    if (event == Json::parse_event_t::object_start && depth == 0) is_object_ = true;
    const bool ends = event == Json::parse_event_t::object_end ||
                      event == Json::parse_event_t::value ||
                      event == Json::parse_event_t::array_end;
    if (!is_object_ || !ends) return true;
    if (depth == 1 && key_ == "otherData") take_head(parsed);
    if (depth == 2 && key_ == "traceEvents") {
      take_event(parsed);
      return false;
    }
    return true;
  }

  Trace finish() {
    if (!has_head_) fail("is not a trace of Strait: it has no otherData");
    if (trace_.spans.empty()) fail("holds no spans");
    return std::move(trace_);
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(fmt::format("{}: {}", path_, what));
  }

 private:
  void take_head(const Json& other) {
    try {
      read_head(other, trace_);
      has_head_ = true;
    } catch (const Wrong& wrong) {
      fail("is not a trace that can be read: " + wrong.text);
    }
  }

  void take_event(const Json& event) {
    if (!has_head_) fail("is not a trace of Strait: otherData does not come before traceEvents");
    try {
      if (text_of(event, "ph", "ph") == "X") trace_.spans.push_back(span_of(event));
    } catch (const Wrong& wrong) {
      const Json name = event.is_object() ? event.value("name", Json()) : Json();
      fail(fmt::format("event {}{} {}", num_events_,
                       name.is_string() ? fmt::format(" ({})", shown(name)) : "", wrong.text));
    }
    ++num_events_;
  }

  const std::string& path_;
  Trace trace_;
  std::string key_;  // of the member of the file's object that is being read
  bool is_object_ = false, has_head_ = false;
  int64_t num_events_ = 0;
};

}  // namespace

Trace read_perfetto(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(fmt::format("{}: {}", path, std::strerror(errno)));
  Reader reader(path);
  try {
    [[maybe_unused]] const Json rest =
        Json::parse(file, [&](int depth, Json::parse_event_t event, Json& parsed) {
          return reader.take(depth, event, parsed);
        });
  } catch (const Json::exception& error) {
    const std::string_view text =
        error.what();  // "[json.exception.parse_error.101] parse error at ..."
    reader.fail(fmt::format("is damaged or cut short: {}", text.substr(text.find("] ") + 2)));
  } catch (const std::ios_base::failure& error) {
    reader.fail(fmt::format("cannot be read: {}", error.what()));
  }
  if (file.bad()) reader.fail("cannot be read to its end");
  return reader.finish();
}

}  // namespace strait
