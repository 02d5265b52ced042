#include "worker/train/watchdog.h"

#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"

namespace lockstep {
namespace {

constexpr absl::Duration kPeriod = absl::Milliseconds(200);  // each look takes a core from a trainer
// Time for the trainer to leave by itself, with a better word on what it was doing.
constexpr int64_t kGraceNanos = 700'000'000;

volatile std::sig_atomic_t caught_signal = 0;

void OnSignal(int signal) {
  caught_signal = signal;
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGINT, SIG_DFL);
}

[[noreturn]] void ExitNow() {
  std::fflush(nullptr);
  _exit(1);
}

}  // namespace

void CatchStopSignals() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
}

Watchdog::Watchdog(std::function<void(const std::string&)> log)
    : log_(std::move(log)), parent_(getppid()), thread_([this] { Loop(); }) {}

Watchdog::~Watchdog() {
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void Watchdog::Watch(CoordinatorLink* link, int rank) {
  MutexLock lock(&mutex_);
  link_ = link;
  rank_ = rank;
}

void Watchdog::Unwatch() {
  MutexLock lock(&mutex_);
  link_ = nullptr;
}

void Watchdog::Loop() {
  MutexLock lock(&mutex_);
  while (!stopped_) {
    Look();
    changed_.WaitFor(&mutex_, kPeriod);
  }
}

void Watchdog::Look() {
  if (getppid() != parent_) {
    log_("the process that started this worker has died");
    ExitNow();
  }
  if (link_ == nullptr) return;
  if (caught_signal != 0 && !told_) {
    StopRequested request;
    request.set_by(absl::StrCat(caught_signal == SIGINT ? "SIGINT" : "SIGTERM", " to worker rank ", rank_));
    request.set_signal(true);
    link_->SendStopRequested(request);
    told_ = true;
  }
  const absl::Status alive = link_->Alive();
  if (!absl::IsCancelled(alive)) return;
  const int64_t now_ns = MonotonicNanos();
  if (aborted_ns_ == 0) aborted_ns_ = now_ns;
  if (now_ns - aborted_ns_ < kGraceNanos) return;
  log_(std::string(alive.message()));
  ExitNow();
}

}  // namespace lockstep
