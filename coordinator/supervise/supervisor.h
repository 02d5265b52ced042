#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/supervise/host_watch.h"
#include "coordinator/supervise/lifeline.h"
#include "coordinator/supervise/mpirun.h"
#include "coordinator/supervise/process.h"
#include "coordinator/supervise/signals.h"

namespace lockstep {

// What the supervisor tells whoever shows the run. Called on the supervisor's thread; must return within a second.
class SupervisorView {
 public:
  virtual ~SupervisorView() = default;
  // The coordinator answers calls at `address`; its process is `coordinator`.
  virtual absl::Status OnReady(const std::string& address, pid_t coordinator) = 0;
  // mpirun is started; threads may be from here on: what is forked now becomes another program at once.
  virtual void OnStarted() = 0;
  // SupervisorOptions.beside has ended by itself.
  virtual void OnBesideEnded() {}
  // Hosts, but for this machine, with ranks that have yet to join.
  virtual std::vector<std::string> AwaitedHosts() { return {}; }
  // A line for the person.
  virtual void OnNotice(const std::string& line) = 0;
  // The run is over and the coordinator still answers: the time to ask it for the last news.
  virtual void OnRunEnded() = 0;
  // Every process of the run but the coordinator is gone: the time to remove what the run leaves behind. Called once,
  // whatever happened before.
  virtual void CleanUp() = 0;
};

struct SupervisorOptions {
  ChildOptions coordinator;  // `--ready-fd N --lifeline-fd N` are appended to its argv
  std::function<ChildOptions(const std::string& address)> mpirun;
  std::optional<ChildOptions> beside;  // looks on: started after mpirun, waited for by nothing, gone with the run
  HostWatch::Options hosts;            // looked after until all ranks have joined
  std::string mpirun_log;              // where mpirun's output is appended; read for who died
  std::string coordinator_log;         // named in messages
  absl::Duration ready_timeout = absl::Seconds(30);     // until the coordinator answers
  absl::Duration settle_timeout = absl::Seconds(2);     // for the coordinator to notice that mpirun is gone
  absl::Duration finalize_timeout = absl::Seconds(10);  // for mpirun once the run has ended as it should
  // … once it has failed: ranks have had their time to leave, and a host may be cut off.
  absl::Duration failed_timeout = absl::Milliseconds(500);
  absl::Duration kill_grace = absl::Seconds(2);     // between SIGTERM and SIGKILL
  absl::Duration leave_timeout = absl::Seconds(5);  // for the coordinator once told `done`
};

struct SupervisedEnd {
  int exit_code = 1;
  // What happened, in words that go after "lockstep: "; empty when the run ended as it should.
  std::string why;
  bool started = false;  // the coordinator could start; what it leaves tells of the run
  // The worker that `why` names as killed by a signal. mpirun does not always say its pid.
  std::optional<WorkerDeath> killed_worker;
};

// Starts the coordinator, then mpirun, and watches over both to the end of the run, which is bounded once anything has
// gone wrong:
//   a) the coordinator says `ready`; mpirun is started, unless it says `ended` instead: the run was over before
//   b) a first SIGINT, SIGTERM, SIGHUP or SIGUSR1 asks the coordinator to stop after a checkpoint (exit code 3); a
//      second one, but for SIGUSR1, ends everything at once (exit code 1)
//   c) the coordinator says `ended`; mpirun has finalize_timeout (of a failed run failed_timeout) to leave,
//      then is ended
//   d) whichever of the two dies before that takes the other one along
//   e) a host that does not answer any more before its ranks have joined ends both
//   f) whatever is left below this process, but the coordinator, is killed; the view cleans up
//   g) the coordinator, which would have done so had this process been killed, is told `done` and leaves
// One thread, one poll over signals and the coordinator's reports; no state that outlives it.
class Supervisor {
 public:
  // `signals` and `view` outlive it.
  Supervisor(SupervisorOptions options, SignalWatch* signals, SupervisorView* view);
  SupervisedEnd Run();

 private:
  struct Process {
    pid_t pid = 0;  // 0: not started
    std::optional<int> status;
    bool running() const { return pid != 0 && !status.has_value(); }
  };

  absl::Status StartCoordinator();
  void StartMpirun(const std::string& address);
  void PollOnce();
  void Reap();
  void OnSignal(int number);
  void OnReport(const LifelineMessage& message);
  void OnCoordinatorExit();
  void OnMpirunExit();
  void OnDeadline();
  void LookAfterHosts();
  absl::Duration TimeToLeave() const;  // of mpirun, once the run has ended
  void Tell(const LifelineMessage& message);
  // SIGTERM to its group now, SIGKILL after kill_grace.
  void EndMpirun();
  // Ends the run in the coordinator; killed after kill_grace.
  void AbortCoordinator(const std::string& why);
  void EndAll(const std::string& why);
  // Nothing more is expected of either.
  bool IsOver() const {
    return !mpirun_.running() && (!coordinator_.running() || ended_.has_value() || refused_.has_value());
  }
  void DismissCoordinator();
  // What mpirun says about the worker that died first, unless it was ended from here.
  std::optional<WorkerDeath> DeadWorker() const;
  std::optional<std::string> DescribeWorkers() const;
  std::string NewMpirunOutput() const;
  std::string DescribeCoordinator() const;
  SupervisedEnd Conclude();

  const SupervisorOptions options_;
  SignalWatch* const signals_;
  SupervisorView* const view_;
  std::unique_ptr<LifelineReader> reports_;
  UniqueFd lifeline_;
  Process coordinator_, mpirun_, beside_;
  HostWatch host_watch_;
  int64_t mpirun_log_begin_ = 0;
  std::optional<int64_t> mpirun_log_end_;  // when it was told to end: what it writes then says nothing of who died
  bool ready_ = false, mpirun_ended_here_ = false;
  int signals_seen_ = 0;
  std::optional<std::string> why_;  // what went wrong first, as seen from here
  std::optional<LifelineMessage> ended_, refused_;
  // InfiniteFuture: none set.
  absl::Time coordinator_deadline_, mpirun_deadline_;
  bool mpirun_deadline_kills_ = false;
};

}  // namespace lockstep
