#pragma once

#include <functional>
#include <memory>
#include <string>

#include "coordinator/service/server.h"
#include "coordinator/supervise/lifeline.h"
#include "coordinator/supervise/signals.h"

namespace lockstep {

// A coordinator's process between its server's start and its end. One thread, one poll over signals, the supervisor's
// lifeline and the run's end; prints the run's events as lines.
struct ServeLoopOptions {
  CoordinatorServer* server = nullptr;
  SignalWatch* signals = nullptr;
  LifelineReader* lifeline = nullptr;  // null: no supervisor
  int report_fd = -1;                  // the supervisor's report pipe
};
struct ServeLoopEnd {
  RunEnded ended;
  bool supervisor_gone = false;
};
// Returns once the run has ended and the supervisor, if any, has seen it; or, when that is gone, as soon as the workers
// were told.
ServeLoopEnd ServeUntilEnded(const ServeLoopOptions& options);

// A supervised coordinator's last word: `ended` or `refused`. Waits until the supervisor has cleaned up after the run.
// False: the supervisor is gone, or silent for too long; this process is then the one to do it.
bool SayLast(const LifelineMessage& message, int report_fd, LifelineReader* lifeline);

}  // namespace lockstep
