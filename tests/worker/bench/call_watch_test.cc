#include "worker/bench/call_watch.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <future>
#include <string>

#include "common/base/clock.h"

namespace lockstep {
namespace {

constexpr int64_t kHourNanos = 3'600'000'000'000;

TEST(CallWatchTest, ACallThatDoesNotComeBackIsNamed) {
  std::promise<std::string> said;
  CallWatch watch(absl::Milliseconds(10), [&](const std::string& what) { said.set_value(what); });
  watch.Begin("all-reduce");
  std::future<std::string> heard = said.get_future();
  ASSERT_EQ(heard.wait_for(std::chrono::seconds(30)), std::future_status::ready);
  EXPECT_EQ(heard.get(), "all-reduce has not come back within 10ms");
}

TEST(CallWatchTest, OnlyTheCallThatIsUnderWayCounts) {
  std::promise<std::string> said;
  CallWatch watch(absl::Milliseconds(200), [&](const std::string& what) { said.set_value(what); });
  watch.Begin("the first");
  watch.Renew(MonotonicNanos() + kHourNanos);  // another one, that has all the time
  watch.End();
  watch.Begin("the last");
  std::future<std::string> heard = said.get_future();
  ASSERT_EQ(heard.wait_for(std::chrono::seconds(30)), std::future_status::ready);
  EXPECT_EQ(heard.get(), "the last has not come back within 200ms");
}

TEST(CallWatchTest, SaysNothingOfACallThatCameBack) {
  CallWatch watch(absl::Hours(1), [](const std::string& what) { ADD_FAILURE() << what; });
  watch.Begin("one");
  watch.Renew(MonotonicNanos() - 2 * kHourNanos);
  watch.End();
}

}  // namespace
}  // namespace lockstep
