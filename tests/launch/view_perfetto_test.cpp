// Traces as files and back, what a viewer needs to find in them, and files that are no traces.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/errors.h"
#include "launch/view/perfetto.h"
#include "tests/launch/view_sample.h"

namespace strait {
namespace {

using Json = nlohmann::json;

TEST(ViewPerfetto, WhatIsWrittenComesBack) {
  const ViewFolder folder;
  for (uint32_t seed = 0; seed < 8; ++seed) {
    Trace trace = random_trace(seed);
    trace.relative = seed % 4 == 1;
    const Trace back = read_perfetto(folder.put("trace.json", perfetto_text(trace)));
    EXPECT_EQ(back.title, trace.title);
    EXPECT_EQ(back.predicted, trace.predicted);
    EXPECT_EQ(back.relative, trace.relative);
    ASSERT_EQ(back.spans.size(), trace.spans.size());
    for (size_t i = 0; i < trace.spans.size(); ++i) {
      EXPECT_EQ(fields_of(back.spans[i]), fields_of(trace.spans[i])) << i;
      EXPECT_EQ(back.spans[i].start_us, trace.spans[i].start_us);
      EXPECT_DOUBLE_EQ(back.spans[i].end_us, trace.spans[i].end_us);
    }
  }
}

TEST(ViewPerfetto, TimesThatAreSumsOfBinaryFractionsComeBackExactly) {
  const ViewFolder folder;
  Trace trace = random_trace(3);
  for (Span& span : trace.spans) {
    span.start_us = std::floor(span.start_us * 16) / 16;
    span.end_us = std::floor(span.end_us * 16) / 16;
  }
  const std::string text = perfetto_text(trace);
  EXPECT_EQ(perfetto_text(read_perfetto(folder.put("trace.json", text))), text);
}

TEST(ViewPerfetto, TextThatIsNotUtf8IsReplaced) {
  const ViewFolder folder;
  Trace trace = random_trace(0, 1, 1);
  trace.title = "tab\there \xff end";
  EXPECT_EQ(read_perfetto(folder.put("trace.json", perfetto_text(trace))).title,
            "tab\there \xEF\xBF\xBD end");
}

// As Perfetto and chrome://tracing read it, by a parser that knows nothing of Strait.
TEST(ViewPerfetto, ProcessesAreRanksAndThreadsAreLanes) {
  const Trace trace = random_trace(2);
  const Json file = Json::parse(perfetto_text(trace));
  EXPECT_EQ(file.at("otherData").at("source"), "prediction");
  std::map<std::pair<int, int>, std::string> threads;
  std::map<int, std::string> processes;
  std::map<std::pair<int, int>, int> counts;
  for (const Json& event : file.at("traceEvents")) {
    const std::pair key(event.at("pid").get<int>(), event.at("tid").get<int>());
    if (event.at("name") == "thread_name") threads[key] = event.at("args").at("name");
    if (event.at("name") == "process_name") processes[key.first] = event.at("args").at("name");
    if (event.at("ph") == "X") {
      ++counts[key];
      EXPECT_EQ(event.at("cat"), event.at("args").at("kind"));
    }
  }
  EXPECT_EQ(processes, (std::map<int, std::string>{{0, "position 0 (prediction)"},
                                                   {5, "position 5 (prediction)"},
                                                   {10, "position 10 (prediction)"}}));
  std::map<std::pair<int, int>, int> expected;
  for (const Span& span : trace.spans) {
    const std::pair key(span.rank, 1 + static_cast<int>(span.lane));
    ++expected[key];
    EXPECT_EQ(threads[key], name_of(span.lane));
  }
  EXPECT_EQ(counts, expected);
  EXPECT_EQ(threads.size(), 17u);  // 3 ranks of 6 lanes, one of them unused
}

TEST(ViewPerfetto, ReadsWhatAnotherWriterOfTheSchemaMayWrite) {
  const ViewFolder folder;
  const std::string text =
      R"({"otherData": {"version": 1.0, "time": "microseconds", "source": "measured", "title": "t",
    "more": [1, {"traceEvents": 2}], "format": "strait trace"},
    "more": {"traceEvents": [{"ph": "X"}]},
    "traceEvents": [
      {"ph": "C", "pid": 0, "name": "counter", "ts": 0, "args": {"memory": 3}},
      {"name": "commit", "ph": "X", "ts": 5, "dur": 2.5, "pid": 3.0, "tid": 5, "args": {"pass": "forward", "kind": "commit"}}
    ]})";
  const Trace trace = read_perfetto(folder.put("trace.json", text));
  ASSERT_EQ(trace.spans.size(), 1u);
  EXPECT_EQ(fields_of(trace.spans[0]),
            fields_of(Span{.rank = 3, .lane = Lane::shard, .name = "commit", .kind = "commit"}));
  EXPECT_EQ(trace.spans[0].end_us, 7.5);
  EXPECT_FALSE(trace.predicted);
}

// The message of reading `text`, without the folder.
std::string error_of(const std::string& text) {
  const ViewFolder folder;
  const std::string path = folder.put("bad.json", text);
  try {
    read_perfetto(path);
  } catch (const DataError& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.substr(0, path.size()), path);
    return message.substr(path.size() + 2);
  }
  return "no error";
}

std::string file_with(const std::string& event) {
  return R"({"otherData":{"format":"strait trace","version":1,"title":"t","source":"prediction","time":"microseconds"},)"
         R"("traceEvents":[{"ph":"M","pid":0,"tid":0,"name":"process_name","args":{"name":"rank 0"}},)" +
         event + "]}";
}

TEST(ViewPerfetto, SaysWhatIsWrongWithAnEventAndWhichItIs) {
  const auto event = [](const std::string& from, const std::string& to) {
    std::string text =
        R"({"ph":"X","pid":0,"tid":1,"ts":1,"dur":2,"name":"mlp.F m0 l1","args":{"kind":"mlp","pass":"forward","layer":1}})";
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos);
    return error_of(file_with(text.replace(at, from.size(), to)));
  };
  EXPECT_EQ(event("\"ts\":1", "\"ts\":1"), "no error");
  const std::string where = "event 1 (\"mlp.F m0 l1\") ";
  EXPECT_EQ(event("\"ph\":\"X\",", ""), where + "has no ph");
  EXPECT_EQ(event("\"pid\":0", "\"pid\":-1"),
            where + "pid is -1, a whole number from 0 to 1048576 was expected");
  EXPECT_EQ(event("\"tid\":1", "\"tid\":7"),
            where + "tid is 7, a whole number from 1 to 6 was expected");
  EXPECT_EQ(event("\"tid\":1", "\"tid\":18446744073709551615"),
            where + "tid is 18446744073709551615, a whole number from 1 to 6 was expected");
  EXPECT_EQ(event("\"ts\":1,", ""), where + "has no ts");
  EXPECT_EQ(event("\"ts\":1", "\"ts\":\"1\""), where + "ts is \"1\", microseconds were expected");
  EXPECT_EQ(event("\"dur\":2", "\"dur\":-2"), where + "dur is -2, less than nothing");
  EXPECT_EQ(
      event("\"forward\"", "\"sideways\""),
      where + "args.pass is 'sideways'; forward, input_gradient or weight_gradient was expected");
  EXPECT_EQ(event("\"layer\":1", "\"layer\":1.5"),
            where + "args.layer is 1.5, a whole number from -1 to 2147483647 was expected");
  EXPECT_EQ(event("\"layer\":1", "\"bytes\":-1"),
            where + "args.bytes is -1, a whole number from 0 to 9223372036854775807 was expected");
  EXPECT_EQ(event("\"kind\":\"mlp\",", ""), where + "has no args.kind");
  EXPECT_EQ(event("\"name\":\"mlp.F m0 l1\",", ""), "event 1 has no name");
  EXPECT_EQ(error_of(file_with("17")), "event 1 has no ph");
}

TEST(ViewPerfetto, SaysWhenAFileIsNoTraceOfStrait) {
  EXPECT_EQ(error_of(R"({"traceEvents":[{"ph":"X"}]})"),
            "is not a trace of Strait: otherData does not come before traceEvents");
  EXPECT_EQ(error_of("[1, 2]"), "is not a trace of Strait: it has no otherData");
  EXPECT_EQ(error_of("{}"), "is not a trace of Strait: it has no otherData");
  EXPECT_EQ(error_of(R"({"otherData":{"format":"other"},"traceEvents":[]})"),
            "is not a trace that can be read: otherData.format is not \"strait trace\"");
  EXPECT_EQ(error_of(R"({"otherData":7})"),
            "is not a trace that can be read: otherData.format is not \"strait trace\"");
  std::string text = perfetto_text(random_trace(0, 1, 1));
  text.replace(text.find("\"version\":1"), 11, "\"version\":2");
  EXPECT_EQ(error_of(text),
            "is not a trace that can be read: otherData.version is 2, this program reads 1");
  EXPECT_EQ(error_of(perfetto_text(Trace{.title = "t", .predicted = true, .spans = {}})),
            "holds no spans");
}

TEST(ViewPerfetto, EveryCutOfAFileIsAnError) {
  const std::string text = perfetto_text(random_trace(1, 1, 2));
  for (size_t size = 0; size + 2 < text.size(); size += 7)
    EXPECT_TRUE(error_of(text.substr(0, size)).starts_with("is damaged or cut short: ")) << size;
  EXPECT_TRUE(error_of(text + "}").starts_with("is damaged or cut short: "));
}

TEST(ViewPerfetto, AFileThatIsNotThereIsAnError) {
  EXPECT_THROW(read_perfetto("/nowhere/trace.json"), DataError);
  EXPECT_THROW(read_perfetto("/tmp"), DataError);
}

}  // namespace
}  // namespace strait
