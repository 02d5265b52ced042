#include "coordinator/service/disk_thread.h"

#include <utility>

namespace lockstep {

DiskThread::DiskThread() : thread_([this] { Loop(); }) {}

DiskThread::~DiskThread() {
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    changed_.NotifyOne();
  }
  thread_.join();
}

void DiskThread::Post(std::function<void()> work) {
  MutexLock lock(&mutex_);
  queue_.push_back(std::move(work));
  changed_.NotifyOne();
}

void DiskThread::Loop() {
  for (;;) {
    std::function<void()> work;
    {
      MutexLock lock(&mutex_);
      while (queue_.empty() && !stopped_) changed_.Wait(&mutex_);
      if (queue_.empty()) return;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    work();
  }
}

}  // namespace lockstep
