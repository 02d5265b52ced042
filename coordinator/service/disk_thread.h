#pragma once

#include <deque>
#include <functional>
#include <thread>

#include "common/base/mutex.h"

namespace lockstep {

// Runs functions one after the other on a thread of its own: what waits for a disk, so that gRPC's few callback threads
// do not. Who posts keeps its number bounded (one a call under way). Destroyed once no more is posted.
class DiskThread {
 public:
  DiskThread();
  ~DiskThread();
  void Post(std::function<void()> work);

 private:
  void Loop();

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lockstep
