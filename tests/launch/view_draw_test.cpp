// `strait draw` as a function: what it writes, what it says, and what it refuses.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "launch/commands/draw.h"
#include "launch/view/trace_account.h"
#include "tests/launch/view_sample.h"

namespace strait {
namespace {

using Json = nlohmann::json;

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// What the command prints.
std::string drawn(const DrawOptions& options) {
  testing::internal::CaptureStdout();
  try {
    EXPECT_EQ(run_draw(options), 0);
  } catch (...) {
    testing::internal::GetCapturedStdout();
    throw;
  }
  return testing::internal::GetCapturedStdout();
}

std::string refusal(const DrawOptions& options) {
  try {
    drawn(options);
  } catch (const RecipeError& error) {
    return error.what();
  }
  return "none";
}

TEST(ViewDraw, ASchedulesPageFileAndSums) {
  const ViewFolder folder;
  DrawOptions options;
  options.schedule = "dualpipe";
  options.ranks = 8;
  options.microbatches = 20;
  options.beside = "1f1b";
  options.out = folder.path("page.html");
  options.perfetto = folder.path("trace.json");
  options.json = true;
  const Json said = Json::parse(drawn(options));
  EXPECT_EQ(said.at("traces").at(0).at("makespan_us"), 66);
  EXPECT_NEAR(said.at("traces").at(0).at("bubble_us").get<double>(), 48, 1e-9);
  EXPECT_EQ(said.at("traces").at(1).at("makespan_us"), 81);
  EXPECT_EQ(said.at("traces").at(1).at("source"), "prediction");
  const std::string page = content_of(options.out);
  EXPECT_EQ(said.at("written").at(0).at("bytes"), page.size());
  EXPECT_NE(
      page.find(
          "\"title\":\"dualpipe, 8 ranks, 20 micro-batches, F=1,B=2,W=1,FB=3\",\"predicted\":true"),
      std::string::npos);
  EXPECT_NE(page.find("\"title\":\"1f1b, 8 ranks, 20 micro-batches"), std::string::npos);
  const Trace trace = read_perfetto(options.perfetto);
  EXPECT_TRUE(trace.relative);
  EXPECT_EQ(account_of(trace).makespan_us(), 66);
}

TEST(ViewDraw, ATraceFromAFileAndAnotherBesideIt) {
  const ViewFolder folder;
  DrawOptions options;
  options.trace = folder.put("a.json", perfetto_text(random_trace(0)));
  options.beside = folder.put("b.json", perfetto_text(random_trace(1)));
  options.out = folder.put("page.html", "an older page");
  options.perfetto = folder.path("again.json");
  const std::string said = drawn(options);
  EXPECT_NE(said.find("(prediction): 680 spans"), std::string::npos) << said;
  EXPECT_NE(said.find("(measured): 680 spans"), std::string::npos);
  EXPECT_NE(said.find("wrote " + options.out), std::string::npos);
  EXPECT_TRUE(content_of(options.out).starts_with("<!DOCTYPE html>"));
  EXPECT_EQ(read_perfetto(options.perfetto).spans.size(), 680u);
}

TEST(ViewDraw, AScheduleFromAFile) {
  const ViewFolder folder;
  DrawOptions options;
  options.schedule =
      folder.put("mine.txt",
                 "schedule mine\nmicro-batches 2\nposition 0 holds 0\nposition 1 holds 1\n"
                 "position 0 runs F0.0 F1.0 B0.0 B1.0\nposition 1 runs F0.0 B0.0 F1.0 B1.0\n");
  options.perfetto = folder.path("trace.json");
  EXPECT_NE(drawn(options).find("mine, 2 ranks, 2 micro-batches"), std::string::npos);
  EXPECT_EQ(account_of(read_perfetto(options.perfetto)).makespan_us(), 9);  // (2 + 1)(F + B)
  options.ranks = 3;
  EXPECT_NE(refusal(options).find("--ranks"), std::string::npos);
}

TEST(ViewDraw, Compares) {
  const ViewFolder folder;
  Trace b = random_trace(0);
  b.spans.pop_back();
  DrawOptions options;
  options.compare = {folder.put("a.json", perfetto_text(random_trace(0))),
                     folder.put("b.json", perfetto_text(b))};
  EXPECT_NE(drawn(options).find("in a alone: 1 spans"), std::string::npos);
  options.json = true;
  EXPECT_EQ(Json::parse(drawn(options)).at("matched"), 679);
}

TEST(ViewDraw, SaysWhatItCannotDo) {
  const ViewFolder folder;
  EXPECT_NE(refusal({}).find("--schedule NAME, or --compare A B"), std::string::npos);
  DrawOptions options;
  options.schedule = "dualpipe";
  options.out = folder.path("page.html");
  EXPECT_NE(refusal(options).find("--ranks 8 --micro-batches 20"), std::string::npos);
  options.ranks = 8;
  options.microbatches = 20;
  options.schedule = "dualpype";
  EXPECT_NE(refusal(options).find("dualpype"), std::string::npos);
  options.schedule = "dualpipe";
  options.times = "F=1";
  EXPECT_NE(refusal(options).find("--times"), std::string::npos);
  options.times = "F=1,B=2,W=1,FB=3";
  options.out.clear();
  EXPECT_NE(refusal(options).find("--out page.html"), std::string::npos);
  options.out = folder.path("no/such/folder/page.html");
  EXPECT_THROW(drawn(options), DataError);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path("")));  // nothing half-written is left
}

}  // namespace
}  // namespace strait
