#pragma once

#include <signal.h>

#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/supervise/process.h"

namespace lockstep {

// Turns SIGINT, SIGTERM, SIGHUP (unless ignored, as under nohup) and SIGCHLD into reads of a descriptor, and ignores
// SIGPIPE. To be made before any thread is started: those inherit the mask. Destroyed, the old mask is back.
class SignalWatch {
 public:
  static absl::StatusOr<SignalWatch> Start();
  SignalWatch(SignalWatch&& other) noexcept;
  SignalWatch& operator=(SignalWatch&&) = delete;
  ~SignalWatch();
  int fd() const { return fd_.get(); }
  // Those that have arrived since the last call, in no order, each once.
  std::vector<int> Read();

 private:
  SignalWatch(UniqueFd fd, const sigset_t& old_mask) : fd_(std::move(fd)), old_mask_(old_mask) {}
  UniqueFd fd_;
  sigset_t old_mask_;
};

// "SIGINT".
const char* SignalName(int number);

}  // namespace lockstep
