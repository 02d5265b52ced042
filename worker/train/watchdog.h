#pragma once

#include <functional>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "worker/coordinator_client/client.h"

namespace lockstep {

// Takes the first SIGTERM or SIGINT down as a wish for a stop; the second has its default action. Once a process, first
// thing in main.
void CatchStopSignals();

// Looks after a worker from a thread of its own, whatever its trainer is stuck in: the process ends with exit code 1
// within about a second when its parent (mpirun's daemon) has died or when the coordinator says to leave at once. Sends
// a caught signal on to the coordinator, once.
class Watchdog {
 public:
  // `log` gets the last line before the process ends; called from the thread.
  explicit Watchdog(std::function<void(const std::string&)> log);
  ~Watchdog();

  // From now on there is a link; it lives until Unwatch.
  void Watch(CoordinatorLink* link, int rank);
  void Unwatch();

 private:
  void Loop();
  void Look() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::function<void(const std::string&)> log_;
  const int parent_;
  Mutex mutex_;
  CondVar changed_;
  CoordinatorLink* link_ ABSL_GUARDED_BY(mutex_) = nullptr;
  int rank_ ABSL_GUARDED_BY(mutex_) = 0;
  bool told_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t aborted_ns_ ABSL_GUARDED_BY(mutex_) = 0;  // when the coordinator's word was first seen; 0: it was not
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lockstep
