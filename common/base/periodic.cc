#include "common/base/periodic.h"

#include <utility>

namespace lockstep {

PeriodicTask::PeriodicTask(absl::Duration period, std::function<void()> task)
    : period_(period), task_(std::move(task)), thread_([this] { Loop(); }) {}

PeriodicTask::~PeriodicTask() { Stop(); }

void PeriodicTask::Poke() {
  MutexLock lock(&mutex_);
  poked_ = true;
  changed_.NotifyOne();
}

void PeriodicTask::Stop() {
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    changed_.NotifyOne();
  }
  if (thread_.joinable()) thread_.join();
}

void PeriodicTask::Loop() {
  for (;;) {
    {
      MutexLock lock(&mutex_);
      while (!poked_ && !stopped_) {
        if (!changed_.WaitFor(&mutex_, period_)) break;
      }
      if (stopped_) return;
      poked_ = false;
    }
    task_();
  }
}

}  // namespace lockstep
