#include "coordinator/supervise/supervisor.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/file.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxLogRead = 4 << 20;

int64_t FileBytes(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 ? info.st_size : 0;
}

}  // namespace

Supervisor::Supervisor(SupervisorOptions options, SignalWatch* signals, SupervisorView* view)
    : options_(std::move(options)),
      signals_(signals),
      view_(view),
      host_watch_(options_.hosts, [view] { return view->AwaitedHosts(); }),
      coordinator_deadline_(absl::InfiniteFuture()),
      mpirun_deadline_(absl::InfiniteFuture()) {}

SupervisedEnd Supervisor::Run() {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const absl::Status started = StartCoordinator();
  while (started.ok() && !IsOver()) PollOnce();
  KillDescendants(options_.kill_grace, coordinator_.running() ? coordinator_.pid : 0);
  view_->CleanUp();
  if (!started.ok()) return {1, std::string(started.message()), false};
  DismissCoordinator();
  return Conclude();
}

void Supervisor::DismissCoordinator() {
  Tell({"done", 0, ""});
  lifeline_.Reset();
  coordinator_deadline_ = absl::Now() + options_.leave_timeout;
  while (coordinator_.running()) PollOnce();
}

absl::Status Supervisor::StartCoordinator() {
  ASSIGN_OR_RETURN(Pipe report, MakePipe());
  ASSIGN_OR_RETURN(Pipe lifeline, MakePipe());
  ChildOptions child = options_.coordinator;
  const std::string ready_fd = absl::StrCat(report.write.get()), lifeline_fd = absl::StrCat(lifeline.read.get());
  child.argv.insert(child.argv.end(), {"--ready-fd", ready_fd, "--lifeline-fd", lifeline_fd});
  child.keep = {report.write.get(), lifeline.read.get()};
  ASSIGN_OR_RETURN(coordinator_.pid, StartChild(child));
  reports_ = std::make_unique<LifelineReader>(std::move(report.read));
  lifeline_ = std::move(lifeline.write);
  coordinator_deadline_ = absl::Now() + options_.ready_timeout;
  return absl::OkStatus();
}

void Supervisor::StartMpirun(const std::string& address) {
  mpirun_log_begin_ = FileBytes(options_.mpirun_log);
  const absl::StatusOr<pid_t> pid = StartChild(options_.mpirun(address));
  if (pid.ok()) {
    mpirun_.pid = *pid;
    if (options_.beside.has_value()) beside_.pid = StartChild(*options_.beside).value_or(0);
    view_->OnStarted();
    host_watch_.Start(absl::Now());
    return;
  }
  const bool missing = absl::IsNotFound(pid.status());
  why_ = absl::StrCat(pid.status().message(), missing ? "; install Open MPI (Debian: openmpi-bin)" : "");
  AbortCoordinator(*why_);
}

void Supervisor::PollOnce() {
  const absl::Time deadline = std::min({coordinator_deadline_, mpirun_deadline_, host_watch_.due()});
  int timeout_ms = -1;
  if (deadline != absl::InfiniteFuture()) {
    timeout_ms = static_cast<int>(std::max<int64_t>(0, absl::ToInt64Milliseconds(deadline - absl::Now()) + 1));
  }
  pollfd fds[2] = {{signals_->fd(), POLLIN, 0}, {reports_->closed() ? -1 : reports_->fd(), POLLIN, 0}};
  if (poll(fds, 2, timeout_ms) < 0 && errno != EINTR) return;
  // What the coordinator said before it left counts before its leaving.
  if (fds[1].revents != 0 || fds[0].revents != 0) {
    for (const LifelineMessage& message : reports_->Read()) OnReport(message);
  }
  if (fds[0].revents != 0) {
    for (const int number : signals_->Read()) {
      if (number != SIGCHLD) OnSignal(number);
    }
    Reap();
  }
  if (absl::Now() >= deadline) OnDeadline();
  LookAfterHosts();
}

void Supervisor::Reap() {
  int status = 0;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    if (pid == coordinator_.pid) {
      coordinator_.status = status;
      for (const LifelineMessage& message : reports_->Read()) OnReport(message);
      OnCoordinatorExit();
    } else if (pid == mpirun_.pid) {
      mpirun_.status = status;
      OnMpirunExit();
    } else if (pid == beside_.pid) {
      beside_.status = status;
      view_->OnBesideEnded();
    } else {
      host_watch_.OnExit(pid);
    }
  }
}

void Supervisor::OnSignal(int number) {
  // A batch system that says more than once that time is short is in no hurry yet.
  if (number == SIGUSR1 && signals_seen_ > 0) return;
  ++signals_seen_;
  if (signals_seen_ == 1 && !ended_.has_value() && !why_.has_value()) {
    view_->OnNotice("stopping after a checkpoint; again to stop at once");
    Tell({"stop", 0, absl::StrCat(SignalName(number), " to lockstep run")});
  } else if (signals_seen_ > 1) {
    EndAll(absl::StrCat("stopped at once by a second signal (", SignalName(number), ")"));
  }
}

void Supervisor::OnReport(const LifelineMessage& message) {
  if (message.word == "ready" && !ready_) {
    ready_ = true;
    if (!why_.has_value()) coordinator_deadline_ = absl::InfiniteFuture();
    if (const absl::Status status = view_->OnReady(message.text, coordinator_.pid); !status.ok()) {
      EndAll(std::string(status.message()));
    }
    if (!why_.has_value()) StartMpirun(message.text);
  } else if (message.word == "refused") {
    refused_ = message;
    coordinator_deadline_ = absl::InfiniteFuture();
  } else if (message.word == "ended" && !ended_.has_value()) {
    ended_ = message;
    ready_ = true;
    view_->OnRunEnded();
    coordinator_deadline_ = absl::InfiniteFuture();
    if (mpirun_.running() && !mpirun_ended_here_) mpirun_deadline_ = absl::Now() + TimeToLeave();
  }
}

absl::Duration Supervisor::TimeToLeave() const {
  return ended_->code == 1 ? options_.failed_timeout : options_.finalize_timeout;
}

void Supervisor::OnCoordinatorExit() {
  coordinator_deadline_ = absl::InfiniteFuture();
  if (ended_.has_value() || refused_.has_value()) return;
  if (!why_.has_value()) why_ = DescribeCoordinator();
  EndMpirun();
}

void Supervisor::OnMpirunExit() {
  mpirun_deadline_ = absl::InfiniteFuture();
  // The coordinator hears of it from the workers' broken streams, and says so in the journal. Only where it does not
  // (no worker had joined yet) is it told.
  if (!ended_.has_value() && !why_.has_value()) coordinator_deadline_ = absl::Now() + options_.settle_timeout;
}

void Supervisor::OnDeadline() {
  const absl::Time now = absl::Now();
  if (now >= mpirun_deadline_) {
    if (mpirun_deadline_kills_) {
      mpirun_deadline_ = absl::InfiniteFuture();
      kill(-mpirun_.pid, SIGKILL);
    } else {
      // A failed run has lost a rank, and mpirun may be waiting for its host.
      if (ended_->code != 1) {
        view_->OnNotice(absl::StrCat("mpirun (pid ", mpirun_.pid, ") did not leave within ",
                                     absl::FormatDuration(TimeToLeave()), " of the run's end; ending it"));
      }
      EndMpirun();
    }
  }
  if (now < coordinator_deadline_) return;
  coordinator_deadline_ = absl::InfiniteFuture();
  if (!ready_ && !why_.has_value()) {
    why_ = absl::StrCat("the coordinator (pid ", coordinator_.pid, ") was not ready within ",
                        absl::FormatDuration(options_.ready_timeout), "; see ", options_.coordinator_log);
    kill(-coordinator_.pid, SIGKILL);
  } else if (!why_.has_value() && !ended_.has_value()) {
    const std::string lost = LostHost(NewMpirunOutput());
    const std::string agent = lost.empty() ? AgentsOwnWords(NewMpirunOutput())
                                           : absl::StrCat("host ", lost, " was lost, it does not answer any more");
    const std::string mpirun = absl::StrCat("mpirun (pid ", mpirun_.pid, ") ", DescribeExit(mpirun_.status.value_or(0)),
                                            " before the run was over", agent.empty() ? "" : absl::StrCat(": ", agent),
                                            "; see ", options_.mpirun_log);
    why_ = DescribeWorkers().value_or(mpirun);
    AbortCoordinator(*why_);
  } else {
    kill(-coordinator_.pid, SIGKILL);
  }
}

void Supervisor::LookAfterHosts() {
  if (!mpirun_.running() || ended_.has_value() || why_.has_value()) return host_watch_.Stop();
  if (const std::optional<std::string> lost = host_watch_.Look(absl::Now())) {
    EndAll(absl::StrCat("host ", *lost, " was lost before its ranks had joined: it gave no answer within ",
                        absl::FormatDuration(options_.hosts.patience)));
  }
}

void Supervisor::Tell(const LifelineMessage& message) {
  // A coordinator that is gone is noticed by SIGCHLD.
  if (lifeline_.get() >= 0) WriteLifelineMessage(lifeline_.get(), message).IgnoreError();
}

void Supervisor::EndMpirun() {
  if (!mpirun_.running() || mpirun_ended_here_) return;
  mpirun_ended_here_ = mpirun_deadline_kills_ = true;
  mpirun_log_end_ = FileBytes(options_.mpirun_log);
  mpirun_deadline_ = absl::Now() + options_.kill_grace;
  kill(-mpirun_.pid, SIGTERM);
  kill(-mpirun_.pid, SIGCONT);
}

void Supervisor::AbortCoordinator(const std::string& why) {
  if (!coordinator_.running() || ended_.has_value()) return;
  Tell({"abort", 0, why});
  coordinator_deadline_ = absl::Now() + options_.kill_grace;
}

void Supervisor::EndAll(const std::string& why) {
  if (!why_.has_value()) why_ = why;
  AbortCoordinator(why);
  EndMpirun();
}

std::string Supervisor::NewMpirunOutput() const {
  const absl::StatusOr<std::string> log = FileSystem::Real()->Read(options_.mpirun_log);
  if (!log.ok()) return "";
  const int64_t end = std::min(static_cast<int64_t>(log->size()), mpirun_log_end_.value_or(INT64_MAX));
  if (end <= mpirun_log_begin_) return "";
  const int64_t begin = std::max(mpirun_log_begin_, end - kMaxLogRead);
  return log->substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

std::optional<WorkerDeath> Supervisor::DeadWorker() const {
  if (mpirun_.pid == 0) return std::nullopt;
  return ParseMpirunOutput(NewMpirunOutput());
}

std::optional<std::string> Supervisor::DescribeWorkers() const {
  const std::optional<WorkerDeath> death = DeadWorker();
  if (!death.has_value()) return std::nullopt;
  if (death->signal.has_value()) return DescribeWorkerDeath(*death);
  const std::string own_words = WorkersOwnWords(NewMpirunOutput());
  if (!own_words.empty()) return absl::StrCat("a worker gave up: ", own_words);
  return absl::StrCat(DescribeWorkerDeath(*death), "; see ", options_.mpirun_log);
}

std::string Supervisor::DescribeCoordinator() const {
  const int status = coordinator_.status.value_or(0);
  return absl::StrCat("the coordinator (pid ", coordinator_.pid, ") ", DescribeExit(status),
                      WIFSIGNALED(status) ? "" : absl::StrCat("; see ", options_.coordinator_log));
}

SupervisedEnd Supervisor::Conclude() {
  if (refused_.has_value()) return {refused_->code, refused_->text, ready_};
  if (signals_seen_ > 1 && why_.has_value()) return {1, *why_, ready_};
  if (ended_.has_value() && ended_->code == 2) return {2, ended_->text, ready_};
  if (ended_.has_value() && ended_->code != 1) {
    if (mpirun_.status.has_value() && *mpirun_.status != 0 && !mpirun_ended_here_) {
      view_->OnNotice(
          absl::StrCat("mpirun ", DescribeExit(*mpirun_.status), " after the run was over; see ", options_.mpirun_log));
    }
    return {ended_->code, "", ready_};
  }
  if (why_.has_value()) return {1, *why_, ready_};
  // The coordinator knows that a worker was lost; mpirun knows how.
  const bool killed = mpirun_.status.has_value() && WIFSIGNALED(*mpirun_.status) && !mpirun_ended_here_;
  if (killed) return {1, absl::StrCat("mpirun (pid ", mpirun_.pid, ") ", DescribeExit(*mpirun_.status)), ready_};
  const std::optional<WorkerDeath> death = DeadWorker();
  if (death.has_value() && death->signal.has_value()) return {1, DescribeWorkerDeath(*death), ready_, death};
  if (ended_->text.empty()) return {1, DescribeWorkers().value_or("the run failed"), ready_};
  return {1, ended_->text, ready_};
}

}  // namespace lockstep
