#pragma once

#include <functional>
#include <thread>

#include "absl/time/time.h"
#include "common/base/mutex.h"

namespace lockstep {

// Calls a function every `period` on a thread of its own, from construction to Stop or destruction, which wait for a
// call under way. Poke asks for a call right now.
class PeriodicTask {
 public:
  PeriodicTask(absl::Duration period, std::function<void()> task);
  ~PeriodicTask();
  void Poke();
  void Stop();

 private:
  void Loop();

  const absl::Duration period_;
  const std::function<void()> task_;
  Mutex mutex_;
  CondVar changed_;
  bool poked_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lockstep
