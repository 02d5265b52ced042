#pragma once

#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/supervise/process.h"

namespace lockstep {

// Turns SIGINT, SIGTERM, SIGUSR1, SIGHUP (unless ignored, as under nohup) and SIGCHLD into reads of a descriptor, and
// ignores SIGPIPE. To be made before any thread is started: those inherit the mask. The signals stay blocked when it is
// destroyed: one that comes late must not change how a process ends.
class SignalWatch {
 public:
  static absl::StatusOr<SignalWatch> Start();
  int fd() const { return fd_.get(); }
  // Those that have arrived since the last call, in no order, each once.
  std::vector<int> Read();

 private:
  explicit SignalWatch(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

// "SIGINT".
const char* SignalName(int number);

}  // namespace lockstep
