#include "coordinator/observe/text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "coordinator/observe/proto_json.h"
#include "tests/coordinator/observe/observe_testing.h"

namespace lockstep {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();
constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

TEST(TextTest, CountsHaveSeparatorsAndStayShort) {
  EXPECT_EQ(CountText(0), "0");
  EXPECT_EQ(CountText(7), "7");
  EXPECT_EQ(CountText(0.25), "0.25");
  EXPECT_EQ(CountText(12.34), "12.3");
  EXPECT_EQ(CountText(99.97), "100");
  EXPECT_EQ(CountText(999), "999");
  EXPECT_EQ(CountText(1000), "1,000");
  EXPECT_EQ(CountText(-1234567.4), "-1,234,567");
  EXPECT_EQ(CountText(1.5e12), "1.50e+12");
  EXPECT_EQ(CountText(kNan), "nan");
  EXPECT_EQ(CountText(-kInf), "-inf");
}

TEST(TextTest, NounsAreSingularForOneAlone) {
  EXPECT_EQ(CountText(0, "step"), "0 steps");
  EXPECT_EQ(CountText(1, "step"), "1 step");
  EXPECT_EQ(CountText(1001, "step"), "1,001 steps");
  EXPECT_EQ(CountText(kMost, "step"), "9,223,372,036,854,775,807 steps");
}

TEST(TextTest, FiguresKeepWhatMatters) {
  EXPECT_EQ(FigureText(0), "0.0000");
  EXPECT_EQ(FigureText(0.97912), "0.9791");
  EXPECT_EQ(FigureText(2.3), "2.3000");
  EXPECT_EQ(FigureText(0.0000125), "1.25e-05");
  EXPECT_EQ(FigureText(-123456), "-1.23e+05");
  EXPECT_EQ(FigureText(kNan), "nan");
  EXPECT_EQ(FigureText(kInf), "inf");
}

TEST(TextTest, DurationsChangeTheirUnit) {
  EXPECT_EQ(DurationText(0), "0.00 s");
  EXPECT_EQ(DurationText(9.994), "9.99 s");
  EXPECT_EQ(DurationText(9.996), "10.0 s");
  EXPECT_EQ(DurationText(59.94), "59.9 s");
  EXPECT_EQ(DurationText(59.96), "1 min 00 s");
  EXPECT_EQ(DurationText(123), "2 min 03 s");
  EXPECT_EQ(DurationText(3599.7), "1 h 00 min");
  EXPECT_EQ(DurationText(3 * 3600 + 240), "3 h 04 min");
  EXPECT_EQ(DurationText(2 * 86400 + 3 * 3600), "2 d 03 h");
  EXPECT_EQ(DurationText(-5), "-5.00 s");
  EXPECT_EQ(DurationText(1e15), "1.16e+10 d");
  EXPECT_EQ(DurationText(kNan), "nan");
}

TEST(TextTest, ClocksSayWhenTheyDoNotKnow) {
  EXPECT_EQ(ClockText(-1), "?");
  EXPECT_EQ(ClockText(kNan), "?");
  EXPECT_EQ(ClockText(0.4), "0:00");
  EXPECT_EQ(ClockText(59.6), "1:00");
  EXPECT_EQ(ClockText(3723), "1:02:03");
  EXPECT_EQ(ClockText(90000), "1 d 01 h");
  EXPECT_EQ(ClockText(1e300), "100 d or more");
}

TEST(TextTest, BytesHaveDecimalUnits) {
  EXPECT_EQ(BytesText(0), "0 B");
  EXPECT_EQ(BytesText(999), "999 B");
  EXPECT_EQ(BytesText(1500), "1.50 kB");
  EXPECT_EQ(BytesText(12345678), "12.3 MB");
  EXPECT_EQ(BytesText(999999999), "1.00 GB");
  EXPECT_EQ(BytesText(kMost), "9.22 EB");
}

TEST(TextTest, WidthAndCutCountCharactersNotBytes) {
  EXPECT_EQ(WidthOf("größe"), 5);
  EXPECT_EQ(Cut("größe", 3), "grö");
  EXPECT_EQ(Cut("größe", 9), "größe");
  EXPECT_EQ(Cut("größe", 0), "");
  EXPECT_EQ(CutMiddle("größe-0012", 9), "größ…0012");
  EXPECT_EQ(CutMiddle("größe-0012", 8), "grö…0012");
  EXPECT_EQ(CutMiddle("größe-0012", 10), "größe-0012");
}

TEST(TextTest, WrapBreaksBetweenWordsAndKeepsLongOnes) {
  EXPECT_EQ(Wrap("one two three", 7, "", ""), "one two\nthree");
  EXPECT_EQ(Wrap("one two three", 9, "a: ", "   "), "a: one\n   two\n   three");
  EXPECT_EQ(Wrap("x /a/very/long/path y", 6, "", "-"), "x\n-/a/very/long/path\n-y");
  EXPECT_EQ(Wrap("", 7, "", ""), "");
}

TEST(TextTest, ShellWordsAreQuotedWhereTheyHaveToBe) {
  EXPECT_EQ(ShellWord("runs/a-1.b_2"), "runs/a-1.b_2");
  EXPECT_EQ(ShellWord("my run"), "'my run'");
  EXPECT_EQ(ShellWord("it's $HOME"), R"('it'\''s $HOME')");
  EXPECT_EQ(ShellWord(""), "''");
}

TEST(TextTest, TablesAlignTextLeftAndNumbersRight) {
  TextTable table({"name", "n"}, {true, false});
  table.Add({"größe", "1"});
  table.Add({"b", "1,000"});
  EXPECT_EQ(table.Text("  "), "  name       n\n  größe      1\n  b      1,000\n");
}

TEST(ProtoJsonTest, NumbersAreNumbersAndWhatIsNotFiniteIsNull) {
  Update update;
  update.set_seq(kMost);
  update.mutable_epoch_done()->set_fingerprint(0xfedcba9876543210);
  EXPECT_EQ(ToJson(update).dump(),
            R"({"seq":9223372036854775807,"time":0.0,"epoch_done":{"epoch":0,"steps":0,"samples":0,)"
            R"("fingerprint":"fedcba9876543210","seconds":0.0,"loss":0.0,"exposed_fraction":0.0}})");
  EXPECT_EQ(
      ToJson(Evaluated(3, kNan, 0.5)).dump(),
      R"({"step":3,"epoch":0,"split":"val","samples":1000,"seconds":0.0,"metrics":{"accuracy":null,"loss":0.5}})");
}

TEST(ProtoJsonTest, EnumsAndListsAndOptionalFieldsKeepTheirNames) {
  RunConfig config;
  config.add_metrics(METRIC_TOP5);
  config.mutable_data()->add_shape(28);
  config.mutable_convergence()->set_target(0.5);
  const nlohmann::ordered_json json = ToJson(config);
  EXPECT_EQ(json.at("metrics").dump(), R"(["METRIC_TOP5"])");
  EXPECT_EQ(json.at("data").at("shape").dump(), "[28]");
  EXPECT_EQ(json.at("convergence").at("target"), 0.5);
  EXPECT_FALSE(ToJson(Convergence()).contains("target"));
  EXPECT_FALSE(json.contains("loss"));
}

TEST(ProtoJsonTest, TextThatIsNotUtf8IsMended) {
  EXPECT_EQ(JsonText(nlohmann::ordered_json{{"why", "bad \xff byte"}}), "{\n  \"why\": \"bad \xef\xbf\xbd byte\"\n}\n");
}

}  // namespace
}  // namespace lockstep
