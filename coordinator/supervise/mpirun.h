#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/supervise/hosts.h"
#include "coordinator/supervise/process.h"

namespace lockstep {

struct MpirunOptions {
  int workers = 1;
  int threads = 1;               // of a worker
  std::vector<HostSlots> hosts;  // filled in their order; empty: this machine alone
  // Of several hosts:
  std::vector<std::string> networks;  // that carry MPI, "10.1.0.0/16"; Open MPI would try all, and hang on docker0
  std::vector<std::string> agent;     // words before a host's name and a command that get it there; empty: Slurm's own
  std::vector<std::string> prefix;    // words before mpirun itself
  absl::Duration silence;             // of a host's daemon, after which it is lost; 0: Open MPI's own, five minutes
  bool bind = false;                  // each worker to `threads` cores of its own
  bool yield = false;                 // who waits gives way: there are more threads than cores
  std::string worker_program;
  std::vector<std::string> arguments;                            // of worker_program
  std::string token;                                             // empty: none
  std::string scratch;                                           // for Open MPI's files; empty: where it likes
  std::string output;                                            // a file; empty: this process's own
  int cores = 1;                                                 // of this machine
  std::vector<std::pair<std::string, std::string>> environment;  // of the workers
};

// FailedPrecondition: this is root outside of a container, and neither `allowed` nor Open MPI's own two variables say
// that workers may have root's rights.
absl::Status CheckRoot(bool allowed);

// How mpirun is started. The token is in the environment alone.
ChildOptions MpirunCommand(const MpirunOptions& options);

// What mpirun says about the first process that ended badly.
struct WorkerDeath {
  int rank = -1;    // -1: not said
  int64_t pid = 0;  // 0: not said
  std::optional<int> signal;
  std::optional<int> exit_code;
};
// "worker 1 (pid 123) was killed by SIGKILL".
std::string DescribeWorkerDeath(const WorkerDeath& death);

// The first line that a worker itself wrote about why it cannot go on, without the program's name: "rank 1 on host: the
// coordinator …". Empty: none did.
std::string WorkersOwnWords(absl::string_view output);

// The first line in which ssh says what it could not do: "ssh: connect to host b port 22: Connection timed out". Empty:
// none.
std::string AgentsOwnWords(absl::string_view output);

// The host of which mpirun says that it has no connection to its daemon there any more. Empty: of none.
std::string LostHost(absl::string_view output);

// Reads mpirun's output: "mpirun noticed that process rank 1 with PID 123 on node x exited on signal 9 (Killed)." and
// "Process name: [[1,1],0]\n  Exit code:    3". Lines may be wrapped anywhere between words.
std::optional<WorkerDeath> ParseMpirunOutput(absl::string_view output);

}  // namespace lockstep
