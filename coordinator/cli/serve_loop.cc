#include "coordinator/cli/serve_loop.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coordinator/cli/screen.h"
#include "coordinator/supervise/process.h"

namespace lockstep {
namespace {

constexpr int kShowEveryMs = 1000;
// For a supervisor to end what has not left by itself, and to clean up: it takes some 15 s at most.
constexpr absl::Duration kFarewell = absl::Minutes(1);
// For the workers to be told to leave.
constexpr absl::Duration kAbortPatience = absl::Seconds(1);

// Makes a descriptor readable once the run has ended.
class EndWatch {
 public:
  explicit EndWatch(CoordinatorServer* server) : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    thread_ = std::thread([this, server] {
      while (!stopped_ && !server->WaitUntilEnded(absl::Milliseconds(500))) continue;
      eventfd_write(fd_.get(), 1);
    });
  }
  ~EndWatch() {
    stopped_ = true;
    thread_.join();
  }
  int fd() const { return fd_.get(); }

 private:
  const UniqueFd fd_;
  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

class ServeLoop {
 public:
  explicit ServeLoop(const ServeLoopOptions& options) : options_(options), end_watch_(options.server), screen_(false) {}

  ServeLoopEnd Run() {
    while (!end_.supervisor_gone && !ended_) PollOnce();
    screen_.Show(options_.server->Status(screen_.last_event()));
    if (end_.supervisor_gone) {
      options_.server->WaitUntilEnded(kAbortPatience);
    } else {
      end_.ended = options_.server->ended();
      TellSupervisor();
    }
    return end_;
  }

 private:
  void PollOnce() {
    const int lifeline = options_.lifeline == nullptr ? -1 : options_.lifeline->fd();
    pollfd fds[3] = {{options_.signals->fd(), POLLIN, 0}, {end_watch_.fd(), POLLIN, 0}, {lifeline, POLLIN, 0}};
    poll(fds, 3, kShowEveryMs);
    if (fds[0].revents != 0) {
      for (const int number : options_.signals->Read()) OnSignal(number);
    }
    if (fds[2].revents != 0) OnLifeline();
    if (fds[1].revents != 0) ended_ = true;
    screen_.Show(options_.server->Status(screen_.last_event()));
  }

  void OnSignal(int number) {
    if (number == SIGCHLD || (number == SIGUSR1 && signals_seen_ > 0)) return;
    const std::string by = absl::StrCat(SignalName(number), " to lockstep serve");
    if (++signals_seen_ == 1) {
      screen_.Line("stopping after a checkpoint; again to stop at once");
      options_.server->AskToStop(by, true);
    } else {
      options_.server->Abort(by);
    }
  }

  void OnLifeline() {
    bool done = false;
    for (const LifelineMessage& message : options_.lifeline->Read()) {
      if (message.word == "stop") options_.server->AskToStop(message.text, true);
      if (message.word == "abort") options_.server->Abort(message.text);
      done = done || message.word == "done";
    }
    if (!options_.lifeline->closed() || done) return;
    end_.supervisor_gone = true;
    options_.server->Abort("the supervisor (lockstep run) is gone");
  }

  // Stays to answer calls until the supervisor has cleaned up.
  void TellSupervisor() {
    if (options_.lifeline == nullptr) return;
    const LifelineMessage message{"ended", end_.ended.exit_code(), end_.ended.why()};
    end_.supervisor_gone = !SayLast(message, options_.report_fd, options_.lifeline);
  }

  const ServeLoopOptions options_;
  EndWatch end_watch_;
  Screen screen_;
  ServeLoopEnd end_;
  bool ended_ = false;
  int signals_seen_ = 0;
};

}  // namespace

bool SayLast(const LifelineMessage& message, int report_fd, LifelineReader* lifeline) {
  if (!WriteLifelineMessage(report_fd, message).ok()) return false;
  const absl::Time deadline = absl::Now() + kFarewell;
  bool done = false;
  while (!done && !lifeline->closed() && absl::Now() < deadline) {
    pollfd fd = {lifeline->fd(), POLLIN, 0};
    poll(&fd, 1, static_cast<int>(absl::ToInt64Milliseconds(deadline - absl::Now())) + 1);
    for (const LifelineMessage& heard : lifeline->Read()) done = done || heard.word == "done";
  }
  return done;
}

ServeLoopEnd ServeUntilEnded(const ServeLoopOptions& options) { return ServeLoop(options).Run(); }

}  // namespace lockstep
