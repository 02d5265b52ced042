#include "common/base/mutex.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace lockstep {
namespace {

struct Counter {
  Mutex mutex;
  CondVar changed;
  int value ABSL_GUARDED_BY(mutex) = 0;
};

TEST(MutexTest, NoIncrementIsLostBetweenThreads) {
  Counter counter;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5000; ++i) {
        MutexLock lock(&counter.mutex);
        ++counter.value;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  MutexLock lock(&counter.mutex);
  EXPECT_EQ(counter.value, 20000);
}

TEST(CondVarTest, WaitForSaysWhenItsTimeHasPassed) {
  Counter counter;
  MutexLock lock(&counter.mutex);
  int woken_for_nothing = 0;
  while (counter.changed.WaitFor(&counter.mutex, absl::Milliseconds(1))) ASSERT_LT(++woken_for_nothing, 1000);
}

TEST(CondVarTest, AWaiterSeesWhatWasChangedBeforeTheNotification) {
  Counter counter;
  std::thread other([&] {
    MutexLock lock(&counter.mutex);
    counter.value = 7;
    counter.changed.NotifyAll();
  });
  {
    MutexLock lock(&counter.mutex);
    while (counter.value == 0) ASSERT_TRUE(counter.changed.WaitFor(&counter.mutex, absl::Seconds(30)));
    EXPECT_EQ(counter.value, 7);
  }
  other.join();
}

}  // namespace
}  // namespace lockstep
