#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/credentials/credentials.h"
#include "lockstep/control.pb.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

struct ServerOptions {
  std::string run_folder;  // exists; the server creates what is missing in it
  std::string listen = "127.0.0.1:0";
  // Of this side: every call must carry the token; with TLS, callers at `listen` must show a certificate of the same
  // authority.
  Credentials credentials;
  std::string local_socket;  // a path where this user's commands come in, by token alone; empty: none
  RunConfig config;          // resolved
  std::string config_digest;
  int world = 1;
  int64_t train_samples = 0, val_samples = 0;
  std::string data_digest;
  bool resume = false;                      // go on from the last checkpoint that verifies; the journal is continued
  std::vector<std::string> hosts_of_ranks;  // where each was started; empty: not known
  absl::Duration join_timeout = absl::Seconds(120);  // until all ranks are there
  absl::Duration heartbeat = absl::Milliseconds(250);
  Clock* clock = Clock::Real();
  FileSystem* files = FileSystem::Real();
};

// Whether a server can listen on `listen`, H:P with a port from 0 (any that is free) to 65535: InvalidArgument or
// FailedPrecondition say what is wrong with it.
absl::Status CheckListen(const std::string& listen);

// The coordinator: journal, state, run.db, event files and checkpoints of one run behind a gRPC server. Thread-safe.
//
// A run ends when every rank has left, or when one is lost: then the others are told to abort. Ended, it has flushed
// everything it holds; the run's exit code follows from the stop decision (0 done, 1 failed, 3 stopped by a signal
// after a checkpoint).
class CoordinatorServer {
 public:
  static absl::StatusOr<std::unique_ptr<CoordinatorServer>> Start(ServerOptions options);
  virtual ~CoordinatorServer() = default;
  // host:port as bound, for workers; and what this user's own commands call: the same, or the local socket.
  virtual std::string address() const = 0;
  virtual std::string local_address() const = 0;
  // A stop with a checkpoint, as RequestStop over the wire.
  virtual void AskToStop(const std::string& by, bool signal) = 0;
  // No checkpoint: tells the ranks to leave at once, ends the run with exit code 1.
  virtual void Abort(const std::string& why) = 0;
  virtual StatusReply Status(int64_t after_event) = 0;
  // Blocks until the run has ended or the time is up.
  virtual bool WaitUntilEnded(absl::Duration timeout) = 0;
  virtual RunEnded ended() const = 0;  // once ended
};

}  // namespace lockstep
