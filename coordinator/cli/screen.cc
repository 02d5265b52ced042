#include "coordinator/cli/screen.h"

#include <sys/ioctl.h>

#include <iostream>
#include <utility>

#include "coordinator/observe/progress.h"

namespace lockstep {
namespace {

// Each look costs the machine a call over gRPC, which a step of a few milliseconds feels.
constexpr absl::Duration kTerminalPeriod = absl::Milliseconds(500), kLogPeriod = absl::Seconds(1);
constexpr char kEraseLine[] = "\r\x1b[K";

int TerminalColumns() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

bool IsWorthALine(const Event& event) {
  if (event.has_epoch() || event.kind_case() == Event::kNote) return true;
  return event.has_decision() && event.decision().kind() != "checkpoint";
}

void Screen::Line(const std::string& line) {
  MutexLock lock(&mutex_);
  ClearLocked();
  std::cout << line << std::endl;
}

void Screen::Show(const StatusReply& status) {
  MutexLock lock(&mutex_);
  for (const Event& event : status.events()) {
    if (event.number() <= last_event_) continue;
    last_event_ = event.number();
    if (!IsWorthALine(event)) continue;
    ClearLocked();
    std::cout << EventText(event) << "\n";
  }
  if (terminal_ && status.phase() != "ended") {
    // One column less: in the last one some terminals break the line.
    std::cout << kEraseLine << ProgressBar(status, TerminalColumns() - 1);
    bar_shown_ = true;
  }
  std::cout << std::flush;
}

void Screen::Clear() {
  MutexLock lock(&mutex_);
  ClearLocked();
}

void Screen::ClearLocked() {
  if (std::exchange(bar_shown_, false)) std::cout << kEraseLine << std::flush;
}

StatusPoller::StatusPoller(OperatorClient* client, Screen* screen)
    : client_(client), screen_(screen), task_(screen->terminal() ? kTerminalPeriod : kLogPeriod, [this] { Poll(); }) {}

void StatusPoller::Finish() {
  task_.Stop();
  Poll();
}

StatusReply StatusPoller::latest() {
  MutexLock lock(&mutex_);
  return latest_;
}

void StatusPoller::Poll() {
  // Below a second: at the end the supervisor waits for the call under way and for one more.
  absl::StatusOr<StatusReply> reply = client_->GetStatus(screen_->last_event(), absl::Milliseconds(800));
  // A coordinator that does not answer is the supervisor's business.
  if (!reply.ok()) return;
  screen_->Show(*reply);
  MutexLock lock(&mutex_);
  latest_ = *std::move(reply);
}

}  // namespace lockstep
