#include "common/base/periodic.h"

#include <gtest/gtest.h>

#include <atomic>

namespace lockstep {
namespace {

constexpr absl::Duration kDeadline = absl::Seconds(30);

// A number that a test can wait for.
class Count {
 public:
  void Add() {
    MutexLock lock(&mutex_);
    ++value_;
    changed_.NotifyAll();
  }
  bool WaitUntil(int value) {
    MutexLock lock(&mutex_);
    while (value_ < value) {
      if (!changed_.WaitFor(&mutex_, kDeadline)) return false;
    }
    return true;
  }
  int value() {
    MutexLock lock(&mutex_);
    return value_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int value_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST(PeriodicTaskTest, CallsAgainAndAgain) {
  Count calls;
  PeriodicTask task(absl::Milliseconds(1), [&] { calls.Add(); });
  EXPECT_TRUE(calls.WaitUntil(3));
}

TEST(PeriodicTaskTest, APokeDoesNotWaitForThePeriod) {
  Count calls;
  PeriodicTask task(absl::Hours(1), [&] { calls.Add(); });
  task.Poke();
  EXPECT_TRUE(calls.WaitUntil(1));
  task.Poke();
  EXPECT_TRUE(calls.WaitUntil(2));
}

TEST(PeriodicTaskTest, APokeDuringACallIsNotLost) {
  Count calls, allowed;
  PeriodicTask task(absl::Hours(1), [&] {
    calls.Add();
    allowed.WaitUntil(1);
  });
  task.Poke();
  ASSERT_TRUE(calls.WaitUntil(1));
  task.Poke();
  allowed.Add();
  EXPECT_TRUE(calls.WaitUntil(2));
}

TEST(PeriodicTaskTest, StopWaitsForTheCallUnderWay) {
  Count begun, allowed;
  std::atomic<bool> done{false};
  PeriodicTask task(absl::Hours(1), [&] {
    begun.Add();
    allowed.WaitUntil(1);
    done = true;
  });
  task.Poke();
  ASSERT_TRUE(begun.WaitUntil(1));
  std::thread release([&] { allowed.Add(); });
  task.Stop();
  EXPECT_TRUE(done);
  release.join();
}

TEST(PeriodicTaskTest, NothingIsCalledAfterStop) {
  Count calls;
  PeriodicTask task(absl::Milliseconds(1), [&] { calls.Add(); });
  ASSERT_TRUE(calls.WaitUntil(1));
  task.Stop();
  const int before = calls.value();
  task.Poke();
  task.Stop();
  EXPECT_EQ(calls.value(), before);
}

TEST(PeriodicTaskTest, StoppedBeforeItsFirstPeriodItNeverCalls) {
  Count calls;
  {
    PeriodicTask task(absl::Hours(1), [&] { calls.Add(); });
  }
  EXPECT_EQ(calls.value(), 0);
}

}  // namespace
}  // namespace lockstep
