#include "common/config/inject.h"

#include <gtest/gtest.h>

#include "common/config/config.h"

namespace lockstep {
namespace {

Inject One(const std::string& text) {
  const auto parsed = ParseInject(text);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() && !parsed->empty() ? parsed->front() : Inject();
}

TEST(InjectTest, FaultsAsPeopleWriteThem) {
  EXPECT_EQ(One("slow-rank=1:20ms").part(), STEP_PART_FORWARD);
  EXPECT_EQ(One("slow-rank=1:20ms").rank(), 1);
  EXPECT_DOUBLE_EQ(One("slow-rank=1:20ms").delay(), 0.020);
  EXPECT_EQ(One("slow-rank=20ms").rank(), -1);
  EXPECT_TRUE(One("jitter=5ms").drawn());
  EXPECT_EQ(One("slow-input=0:1.5s").part(), STEP_PART_INPUT);
  EXPECT_EQ(One("optimizer=2:3ms@100-200").part(), STEP_PART_OPTIMIZER);
  EXPECT_EQ(One("optimizer=2:3ms@100-200").first_step(), 100);
  EXPECT_EQ(One("optimizer=2:3ms@100-200").last_step(), 200);
  EXPECT_EQ(One("other=3ms@7-").last_step(), 0);
  EXPECT_EQ(One("other=3ms@7").last_step(), 7);
  EXPECT_DOUBLE_EQ(One("clock=1:-5s:50ppm").clock_offset(), -5);
  EXPECT_DOUBLE_EQ(One("clock=1:-5s:50ppm").clock_drift(), 50e-6);
  EXPECT_TRUE(One("unmeasured@5-9").unmeasured());
  EXPECT_EQ(One("unmeasured@5-9").last_step(), 9);
  EXPECT_TRUE(One("unmeasured").unmeasured());
  for (const char* text : {"compute=x1.5", "compute=×1.5", "compute=1.5", "compute=3:1.5"}) {
    const auto both = ParseInject(text);
    ASSERT_TRUE(both.ok()) << both.status();
    ASSERT_EQ(both->size(), 2u) << "forward and backward";
    EXPECT_DOUBLE_EQ((*both)[1].factor(), 1.5);
  }
}

TEST(InjectTest, WhatIsWrongIsSaidInALine) {
  for (const char* text : {"", "slow-rank", "slow-rank=", "slow-rank=1:20", "slow-rank=1:0ms", "slow-rank=-1:20ms",
                           "slow=1:2ms", "jitter=1:2ms", "compute=x0.5", "compute=fast", "other=1ms@5-3", "other=1ms@0",
                           "other=1ms@x", "clock=1:5s:50", "clock=1:5s:1ppm:2", "slow-rank=1:2:20ms", "unmeasured=1", "unmeasured@9-5"}) {
    const auto parsed = ParseInject(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(parsed.status().message().find("write slow-rank=R:20ms"), std::string::npos) << parsed.status();
  }
}

TEST(InjectTest, AnOverrideIsReadAsWritten) {
  const auto text = InjectOverride({"slow-rank=1:20ms@3-9", "compute=x2", "clock=0:90s:-20ppm", "unmeasured@3-"});
  ASSERT_TRUE(text.ok()) << text.status();
  const auto override = ParseOverride(*text);
  ASSERT_TRUE(override.ok()) << override.status();
  const auto config = ParseConfig("data: {path: /}\nmodel: {name: mlp}\n", "x.yaml", {*override});
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->inject_size(), 5);
  EXPECT_EQ(InjectText(config->inject(0)), "forward=1:20ms@3-9");
  EXPECT_EQ(InjectText(config->inject(2)), "backward=x2");
  EXPECT_EQ(InjectText(config->inject(3)), "clock=0:1m30s:-20ppm");
  EXPECT_EQ(InjectText(config->inject(4)), "unmeasured@3-");
}

}  // namespace
}  // namespace lockstep
