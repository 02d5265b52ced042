#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/base/periodic.h"
#include "coordinator/cli/operator_client.h"
#include "lockstep/control.pb.h"

namespace lockstep {

// Shows a run on standard output: on a terminal a bar that is drawn anew, with lines above it; elsewhere lines alone.
// Thread-safe.
class Screen {
 public:
  explicit Screen(bool terminal = isatty(STDOUT_FILENO) == 1) : terminal_(terminal) {}
  ~Screen() { Clear(); }
  bool terminal() const { return terminal_; }
  // A line above the bar.
  void Line(const std::string& line);
  // The events that it has not shown yet, as lines, then the bar.
  void Show(const StatusReply& status);
  void Clear();
  int64_t last_event() const { return last_event_; }

 private:
  void ClearLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const bool terminal_;
  Mutex mutex_;
  bool bar_shown_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<int64_t> last_event_{0};
};

// Epochs, notes and decisions; not the checkpoints that the schedule makes.
bool IsWorthALine(const Event& event);

// Asks a live coordinator for its status twice a second, once if there is no terminal, and shows it. Thread-safe.
class StatusPoller {
 public:
  // `client` and `screen` outlive it.
  StatusPoller(OperatorClient* client, Screen* screen);
  // Polls once more and stops.
  void Finish();
  // The latest answer; a default one before the first.
  StatusReply latest();

 private:
  void Poll();

  OperatorClient* const client_;
  Screen* const screen_;
  Mutex mutex_;
  StatusReply latest_ ABSL_GUARDED_BY(mutex_);
  PeriodicTask task_;
};

}  // namespace lockstep
