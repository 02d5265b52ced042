#include "worker/train/step_trace.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(StepTraceTest, SpansAreByThreadAndBeginningAndWhatHoldsOthersComesFirst) {
  StepTrace trace;
  trace.Begin();
  trace.Add(TRACE_THREAD_INPUT, "read", 5, 6);
  trace.Forward("0 Linear", 100, 150, 2e6);
  trace.Backward("0 Linear", 300, 320, 4e6);
  trace.Add(TRACE_THREAD_TRAINER, "forward", 100, 200);
  trace.Add(TRACE_THREAD_TRAINER, "backward", 200, 400);
  StepRecord record;
  trace.Fill(WallClock{1'000'000'000, 0}, &record);
  ASSERT_EQ(record.spans_size(), 5);
  EXPECT_EQ(record.spans(0).name(), "forward");
  EXPECT_EQ(record.spans(1).name(), "forward 0 Linear");
  EXPECT_EQ(record.spans(1).flops(), 2e6);
  EXPECT_EQ(record.spans(2).name(), "backward");
  EXPECT_EQ(record.spans(3).name(), "backward 0 Linear");
  EXPECT_EQ(record.spans(4).thread(), TRACE_THREAD_INPUT);
  EXPECT_DOUBLE_EQ(record.spans(0).start(), 1 + 100e-9);
}

TEST(StepTraceTest, ANewStepForgetsTheLast) {
  StepTrace trace;
  trace.Add(TRACE_THREAD_TRAINER, "forward", 1, 2);
  trace.Begin();
  trace.Add(TRACE_THREAD_TRAINER, "backward", 3, 4);
  StepRecord record;
  trace.Fill(WallClock(), &record);
  ASSERT_EQ(record.spans_size(), 1);
  EXPECT_EQ(record.spans(0).name(), "backward");
}

TEST(StepTraceTest, ItHasABound) {
  StepTrace trace;
  for (size_t i = 0; i < StepTrace::kMostSpans + 10; ++i) {
    trace.Add(TRACE_THREAD_TRAINER, "x", static_cast<int64_t>(i), static_cast<int64_t>(i) + 1);
  }
  StepRecord record;
  trace.Fill(WallClock(), &record);
  EXPECT_EQ(record.spans_size(), static_cast<int>(StepTrace::kMostSpans));
}

}  // namespace
}  // namespace lockstep
