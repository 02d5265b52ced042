#include "coordinator/supervise/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/base/file.h"
#include "common/base/status.h"

extern char** environ;

namespace lockstep {
namespace {

std::vector<std::string> MergedEnvironment(const std::vector<std::pair<std::string, std::string>>& added) {
  std::map<std::string, std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::pair<std::string, std::string> variable = absl::StrSplit(*entry, absl::MaxSplits('=', 1));
    merged[variable.first] = variable.second;
  }
  for (const auto& [name, value] : added) merged[name] = value;
  std::vector<std::string> environment;
  for (const auto& [name, value] : merged) environment.push_back(absl::StrCat(name, "=", value));
  return environment;
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// What stands ready before fork, since the child may only make system calls.
struct Prepared {
  std::vector<char*> argv, environment;
  int input = -1, output = -1, error = -1, report = -1;  // output, error -1: inherited
  const std::vector<int>* keep = nullptr;
  int parent_death_signal = 0;
  pid_t parent = 0;
};

[[noreturn]] void BecomeChild(const Prepared& prepared) {
  setpgid(0, 0);
  if (prepared.parent_death_signal != 0) {
    prctl(PR_SET_PDEATHSIG, prepared.parent_death_signal);
    if (getppid() != prepared.parent) _exit(127);
  }
  // Not SIGHUP: under nohup it stays ignored.
  for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGPIPE, SIGCHLD}) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  dup2(prepared.input, STDIN_FILENO);
  if (prepared.output >= 0) dup2(prepared.output, STDOUT_FILENO);
  if (prepared.error >= 0) dup2(prepared.error, STDERR_FILENO);
  for (const int fd : *prepared.keep) fcntl(fd, F_SETFD, 0);
  execvpe(prepared.argv[0], prepared.argv.data(), prepared.environment.data());
  const int error = errno;
  if (write(prepared.report, &error, sizeof(error)) < 0) _exit(126);
  _exit(127);
}

absl::StatusOr<pid_t> Fork(const ChildOptions& options, int input, int output, int error) {
  ASSIGN_OR_RETURN(Pipe report, MakePipe());
  const std::vector<std::string> environment = MergedEnvironment(options.environment);
  Prepared prepared;
  prepared.argv = Pointers(options.argv);
  prepared.environment = Pointers(environment);
  prepared.input = input;
  prepared.output = output;
  prepared.error = error;
  prepared.report = report.write.get();
  prepared.keep = &options.keep;
  prepared.parent_death_signal = options.parent_death_signal;
  prepared.parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus(errno, absl::StrCat("starting ", options.argv[0]));
  if (pid == 0) BecomeChild(prepared);
  setpgid(pid, pid);  // also here, so that it holds whoever runs first
  report.write.Reset();
  int exec_error = 0;
  ssize_t n;
  while ((n = read(report.read.get(), &exec_error, sizeof(exec_error))) < 0 && errno == EINTR) continue;
  if (n == 0) return pid;
  waitpid(pid, nullptr, 0);
  return ErrnoStatus(exec_error, absl::StrCat("starting ", options.argv[0]));
}

absl::StatusOr<UniqueFd> OpenFile(const std::string& path, int flags) {
  UniqueFd fd(open(path.c_str(), flags | O_CLOEXEC, 0644));
  if (fd.get() < 0) return ErrnoStatus(errno, path);
  return fd;
}

// Parent of every process; those that end while we look are left out.
std::map<pid_t, pid_t> ParentsOfAll() {
  std::map<pid_t, pid_t> parents;
  const absl::StatusOr<std::vector<std::string>> names = FileSystem::Real()->List("/proc");
  if (!names.ok()) return parents;
  for (const std::string& name : *names) {
    pid_t pid = 0, parent = 0;
    if (!absl::SimpleAtoi(name, &pid)) continue;
    const absl::StatusOr<std::string> stat = FileSystem::Real()->Read(absl::StrCat("/proc/", name, "/stat"));
    if (!stat.ok()) continue;
    const std::vector<absl::string_view> fields =
        absl::StrSplit(absl::string_view(*stat).substr(stat->rfind(')') + 1), ' ', absl::SkipEmpty());
    if (fields.size() > 1 && absl::SimpleAtoi(fields[1], &parent)) parents[pid] = parent;
  }
  return parents;
}

std::vector<pid_t> Descendants() {
  const std::map<pid_t, pid_t> parents = ParentsOfAll();
  std::vector<pid_t> descendants;
  for (const auto& [pid, parent] : parents) {
    pid_t ancestor = parent;
    for (size_t depth = 0; depth < parents.size() && ancestor > 1 && ancestor != getpid(); ++depth) {
      const auto next = parents.find(ancestor);
      ancestor = next == parents.end() ? 0 : next->second;
    }
    if (ancestor == getpid()) descendants.push_back(pid);
  }
  return descendants;
}

// Moves bytes both ways until the child closes its output. False: the time was up.
bool Exchange(Pipe* to_child, Pipe* from_child, absl::string_view input, absl::Time deadline, std::string* output) {
  fcntl(to_child->write.get(), F_SETFL, O_NONBLOCK);
  for (;;) {
    if (input.empty()) to_child->write.Reset();
    pollfd fds[2] = {{from_child->read.get(), POLLIN, 0}, {to_child->write.get(), POLLOUT, 0}};
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline - absl::Now());
    if (left_ms <= 0) return false;
    if (poll(fds, 2, static_cast<int>(left_ms)) < 0 && errno != EINTR) return false;
    if (fds[1].revents != 0) {
      const ssize_t n = write(to_child->write.get(), input.data(), input.size());
      if (n > 0) input.remove_prefix(n);
      if (n < 0 && errno != EAGAIN && errno != EINTR) input = "";
    }
    if (fds[0].revents == 0) continue;
    char buffer[4096];
    const ssize_t n = read(from_child->read.get(), buffer, sizeof(buffer));
    if (n == 0) return true;
    if (n > 0) output->append(buffer, n);
  }
}

}  // namespace

void UniqueFd::Reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

std::string OwnProgram() {
  constexpr char kSelf[] = "/proc/self/exe";
  std::error_code error;
  const std::string path = std::filesystem::read_symlink(kSelf, error);
  // The link still leads to the program where its file was replaced in the meantime.
  return !error && access(path.c_str(), X_OK) == 0 ? path : kSelf;
}

absl::StatusOr<Pipe> MakePipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return ErrnoStatus(errno, "making a pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

absl::StatusOr<pid_t> StartChild(const ChildOptions& options) {
  ASSIGN_OR_RETURN(const UniqueFd input, OpenFile("/dev/null", O_RDONLY));
  UniqueFd output;
  if (!options.output.empty()) {
    ASSIGN_OR_RETURN(output, OpenFile(options.output, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW));
  }
  return Fork(options, input.get(), output.get(), output.get());
}

std::string DescribeExit(int wait_status) {
  if (!WIFSIGNALED(wait_status)) return absl::StrCat("ended with exit code ", WEXITSTATUS(wait_status));
  const char* name = sigabbrev_np(WTERMSIG(wait_status));
  return absl::StrCat("was killed by ",
                      name == nullptr ? absl::StrCat("signal ", WTERMSIG(wait_status)) : absl::StrCat("SIG", name));
}

absl::StatusOr<Captured> RunAndCapture(const ChildOptions& options, const std::string& input, absl::Duration timeout) {
  ASSIGN_OR_RETURN(Pipe to_child, MakePipe());
  ASSIGN_OR_RETURN(Pipe from_child, MakePipe());
  signal(SIGPIPE, SIG_IGN);
  const int output = from_child.write.get();
  ASSIGN_OR_RETURN(const pid_t pid, Fork(options, to_child.read.get(), output, options.errors_too ? output : -1));
  to_child.read.Reset();
  from_child.write.Reset();
  Captured captured;
  const bool in_time = Exchange(&to_child, &from_child, input, absl::Now() + timeout, &captured.output);
  if (!in_time) kill(-pid, SIGKILL);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (!in_time) {
    return absl::DeadlineExceededError(
        absl::StrCat(options.argv[0], ": gave no answer within ", absl::FormatDuration(timeout)));
  }
  if (WIFSIGNALED(status))
    return absl::FailedPreconditionError(absl::StrCat(options.argv[0], " ", DescribeExit(status)));
  captured.exit_code = WEXITSTATUS(status);
  return captured;
}

absl::StatusOr<std::unique_ptr<Conversation>> Conversation::Start(const ChildOptions& options) {
  ASSIGN_OR_RETURN(Pipe to_child, MakePipe());
  ASSIGN_OR_RETURN(Pipe from_child, MakePipe());
  signal(SIGPIPE, SIG_IGN);
  ASSIGN_OR_RETURN(const pid_t pid, Fork(options, to_child.read.get(), from_child.write.get(), -1));
  return std::unique_ptr<Conversation>(new Conversation(pid, std::move(to_child.write), std::move(from_child.read)));
}

Conversation::~Conversation() {
  kill(-pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
}

absl::Status Conversation::Say(const std::string& line) {
  const std::string text = line + "\n";
  for (size_t said = 0; said < text.size();) {
    const ssize_t n = write(to_.get(), text.data() + said, text.size() - said);
    if (n < 0 && errno != EINTR) return ErrnoStatus(errno, "writing to a child");
    said += n > 0 ? static_cast<size_t>(n) : 0;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Conversation::Hear(absl::Time deadline) {
  for (;;) {
    if (const size_t end = heard_.find('\n'); end != std::string::npos) {
      const std::string line = heard_.substr(0, end);
      heard_.erase(0, end + 1);
      return line;
    }
    pollfd one = {from_.get(), POLLIN, 0};
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline - absl::Now());
    if (left_ms <= 0) return absl::DeadlineExceededError("a child gave no answer");
    if (poll(&one, 1, static_cast<int>(left_ms)) <= 0) continue;
    char buffer[4096];
    const ssize_t n = read(from_.get(), buffer, sizeof(buffer));
    if (n == 0) return absl::OutOfRangeError("a child has ended");
    if (n > 0) heard_.append(buffer, static_cast<size_t>(n));
  }
}

void KillDescendants(absl::Duration timeout, pid_t spared) {
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    bool any = false;
    for (const pid_t pid : Descendants()) {
      if (pid == spared) continue;
      kill(pid, SIGKILL);
      any = waitpid(pid, nullptr, WNOHANG) != pid || any;
    }
    if (!any || absl::Now() > deadline) return;
    poll(nullptr, 0, 5);
  }
}

std::vector<pid_t> ProcessesWithVariable(const std::string& name, const std::string& value) {
  std::vector<pid_t> found;
  const absl::StatusOr<std::vector<std::string>> names = FileSystem::Real()->List("/proc");
  if (!names.ok()) return found;
  const std::string wanted = absl::StrCat(name, "=", value);
  for (const std::string& entry : *names) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry, &pid) || pid == getpid()) continue;
    // Other users' environments cannot be read, and have no such variable.
    const absl::StatusOr<std::string> environment = FileSystem::Real()->Read(absl::StrCat("/proc/", entry, "/environ"));
    if (!environment.ok()) continue;
    for (const absl::string_view variable : absl::StrSplit(*environment, '\0')) {
      if (variable != wanted) continue;
      found.push_back(pid);
      break;
    }
  }
  return found;
}

}  // namespace lockstep
