#include "worker/bench/call_watch.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"

namespace lockstep {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
constexpr absl::Duration kLookEvery = absl::Milliseconds(100);

}  // namespace

CallWatch::CallWatch(absl::Duration timeout, std::function<void(const std::string&)> expired)
    : timeout_ns_(absl::ToInt64Nanoseconds(timeout)),
      expired_(std::move(expired)),
      until_ns_(kNever),
      look_(kLookEvery, [this] { Look(); }) {}

void CallWatch::Begin(std::string what) {
  MutexLock lock(&mutex_);
  what_ = std::move(what);
  Renew(MonotonicNanos());
}

void CallWatch::End() { until_ns_.store(kNever, std::memory_order_relaxed); }

void CallWatch::Look() {
  std::string what;
  {
    MutexLock lock(&mutex_);
    if (MonotonicNanos() <= until_ns_.load(std::memory_order_relaxed)) return;
    until_ns_.store(kNever, std::memory_order_relaxed);
    what = what_;
  }
  expired_(absl::StrCat(what, " has not come back within ", absl::FormatDuration(absl::Nanoseconds(timeout_ns_))));
}

}  // namespace lockstep
