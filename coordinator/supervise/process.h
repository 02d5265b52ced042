#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace lockstep {

// A descriptor that is closed with its owner.
class UniqueFd {
 public:
  explicit UniqueFd(int fd = -1) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { Reset(); }
  int get() const { return fd_; }
  void Reset(int fd = -1);

 private:
  int fd_;
};

struct Pipe {
  UniqueFd read, write;
};
// Both ends close on exec.
absl::StatusOr<Pipe> MakePipe();

struct ChildOptions {
  std::vector<std::string> argv;                                 // argv[0] is looked for in PATH unless it has a slash
  std::vector<std::pair<std::string, std::string>> environment;  // on top of this process's own
  std::string output;           // stdout and stderr are appended to this file, no link; empty: inherited
  bool errors_too = false;      // of RunAndCapture: stderr is captured like stdout
  std::vector<int> keep;        // descriptors that the child keeps, under the same numbers
  int parent_death_signal = 0;  // sent to the child when the calling thread ends; 0: none
};

// This program's path, as `ps` is to show it of a child that runs it too.
std::string OwnProgram();

// Starts a child in a process group of its own, with an empty signal mask and nothing to read. An error of exec is
// returned here, as NotFound or what errno says.
absl::StatusOr<pid_t> StartChild(const ChildOptions& options);

// "was killed by SIGKILL", "ended with exit code 2", of a status from waitpid.
std::string DescribeExit(int wait_status);

// Runs a child to its end and returns its exit code and what it wrote to stdout (stderr is inherited). `input` goes to
// its stdin. With `options.errors_too` what it says on stderr is captured as well. FailedPrecondition: killed by a
// signal; DeadlineExceeded: killed here after `timeout`.
struct Captured {
  std::string output;
  int exit_code = 0;
};
absl::StatusOr<Captured> RunAndCapture(const ChildOptions& options, const std::string& input, absl::Duration timeout);

// A child that is talked to line by line, by its standard input and output. Killed with its group, and reaped, when
// destroyed. Not thread-safe.
class Conversation {
 public:
  static absl::StatusOr<std::unique_ptr<Conversation>> Start(const ChildOptions& options);
  ~Conversation();
  absl::Status Say(const std::string& line);
  // Its next line, without the end. DeadlineExceeded; OutOfRange: it has closed its output.
  absl::StatusOr<std::string> Hear(absl::Time deadline);

 private:
  Conversation(pid_t pid, UniqueFd to, UniqueFd from) : pid_(pid), to_(std::move(to)), from_(std::move(from)) {}
  const pid_t pid_;
  UniqueFd to_, from_;
  std::string heard_;
};

// SIGKILL to every process below this one but `spared`, until no other is left or the time is up; they are reaped. With
// PR_SET_CHILD_SUBREAPER that includes orphans of this process's children.
void KillDescendants(absl::Duration timeout, pid_t spared = 0);

// Processes of this user, other than the caller, whose environment has `name`=`value`. How a run's processes are found
// whoever their parent is by now.
std::vector<pid_t> ProcessesWithVariable(const std::string& name, const std::string& value);

}  // namespace lockstep
