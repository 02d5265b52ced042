#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lockstep/control.grpc.pb.h"

namespace lockstep {

// A person's commands to a live coordinator. Every call carries the token and has a deadline; no proxy of the
// environment is asked. Thread-safe.
class OperatorClient {
 public:
  OperatorClient(const std::string& address, std::string token);

  // Events with a number above `after_event`.
  absl::StatusOr<StatusReply> GetStatus(int64_t after_event, absl::Duration timeout = absl::Seconds(2));
  // What the coordinator said, for people. `by` says who asks.
  absl::StatusOr<std::string> RequestStop(const std::string& by, bool signal);
  absl::StatusOr<std::string> RequestCheckpoint(const std::string& by);

 private:
  void Prepare(absl::Duration timeout, grpc::ClientContext* context) const;

  const std::string token_;
  const std::unique_ptr<Coordinator::Stub> stub_;
};

// The client of RUN's live coordinator. NotFound: RUN is no run; FailedPrecondition: it is not live.
struct LiveRun {
  std::string folder;
  std::unique_ptr<OperatorClient> client;
};
absl::StatusOr<LiveRun> FindLiveRun(const std::string& run);

}  // namespace lockstep
