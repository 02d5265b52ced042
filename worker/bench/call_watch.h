#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/base/periodic.h"

namespace lockstep {

// A deadline for calls that know none, such as the MPI library's blocking ones. Begin, Renew and End are for one
// thread; the watch looks on from one of its own.
class CallWatch {
 public:
  // `expired` is called once, with "<what> has not come back within 1m", while the call is still under way: it has to
  // end the process.
  CallWatch(absl::Duration timeout, std::function<void(const std::string&)> expired);
  // Calls named `what` follow, the first one now.
  void Begin(std::string what);
  // Another one begins at `now_ns` of MonotonicNanos. A few nanoseconds.
  void Renew(int64_t now_ns) { until_ns_.store(now_ns + timeout_ns_, std::memory_order_relaxed); }
  // No call is under way.
  void End();

 private:
  void Look();

  const int64_t timeout_ns_;
  const std::function<void(const std::string&)> expired_;
  std::atomic<int64_t> until_ns_;
  Mutex mutex_;
  std::string what_ ABSL_GUARDED_BY(mutex_);
  PeriodicTask look_;  // the last: its thread uses the rest
};

}  // namespace lockstep
