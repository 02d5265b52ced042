#include <poll.h>

#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/end_of_run.h"
#include "coordinator/cli/operator_client.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/cli/screen.h"
#include "coordinator/observe/progress.h"
#include "coordinator/supervise/signals.h"

namespace lockstep {
namespace {

constexpr int kPeriodMs = 200;
// A coordinator that is stopped or overloaded gets this long before it counts as gone.
constexpr absl::Duration kPatience = absl::Seconds(30);

// With --json, a status a line for every change.
class Watch {
 public:
  Watch(LiveRun live, bool json) : live_(std::move(live)), json_(json) {}

  absl::StatusOr<int> Follow(SignalWatch* signals) {
    absl::Time heard = absl::Now();
    for (;;) {
      absl::StatusOr<StatusReply> reply = live_.client->GetStatus(screen_.last_event());
      if (reply.ok()) {
        heard = absl::Now();
        Show(*reply);
        if (reply->phase() == "ended") return Ended(*reply);
      } else if (!IsLive(live_.folder)) {
        return EndedUnseen();
      } else if (absl::Now() - heard > kPatience) {
        return absl::UnavailableError(
            absl::StrCat(live_.folder, ": its coordinator does not answer: ", reply.status().message()));
      }
      if (WaitForSignal(signals)) return kExitDone;
    }
  }

 private:
  void Show(const StatusReply& reply) {
    if (!json_) return screen_.Show(reply);
    if (reply.step() == shown_step_ && reply.phase() == shown_phase_) return;
    shown_step_ = reply.step();
    shown_phase_ = reply.phase();
    std::cout << StatusJson(reply) << std::flush;
  }

  absl::StatusOr<int> Ended(const StatusReply& reply) {
    screen_.Clear();
    return json_ ? reply.exit_code() : PrintEndOfRun(live_.folder, reply.exit_code(), reply.stop().reason());
  }

  // It ended between two questions: the folder says how.
  absl::StatusOr<int> EndedUnseen() {
    screen_.Clear();
    ASSIGN_OR_RETURN(const RunOverview overview, ReadOverview(live_.folder));
    if (json_) return overview.exit_code;
    return PrintEndOfRun(live_.folder, overview.exit_code, overview.why);
  }

  static bool WaitForSignal(SignalWatch* signals) {
    pollfd fd = {signals->fd(), POLLIN, 0};
    return poll(&fd, 1, kPeriodMs) > 0;
  }

  const LiveRun live_;
  const bool json_;
  Screen screen_;
  int64_t shown_step_ = -1;
  std::string shown_phase_;
};

absl::StatusOr<int> WatchRun(const std::string& run, bool json) {
  ASSIGN_OR_RETURN(SignalWatch signals, SignalWatch::Start());
  ASSIGN_OR_RETURN(LiveRun live, FindLiveRun(run));
  return Watch(std::move(live), json).Follow(&signals);
}

}  // namespace

void AddWatch(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand("watch", "Follow a live run to its end; Ctrl-C leaves it running");
  auto run = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("RUN", *run, "A run's folder or name")->required()->type_name("");
  command->add_flag("--json", *json, "The status as JSON, each time it has changed");
  command->callback([=] {
    *action = [run, json] {
      const absl::StatusOr<int> code = WatchRun(*run, *json);
      return code.ok() ? *code : Fail(code.status());
    };
  });
}

}  // namespace lockstep
