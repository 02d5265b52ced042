#include <unistd.h>

#include <iostream>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/cores.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "common/config/config.h"
#include "common/config/inject.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/end_of_run.h"
#include "coordinator/cli/prepare.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/cli/screen.h"
#include "coordinator/cli/worker_program.h"
#include "coordinator/observe/text.h"
#include "coordinator/supervise/mpirun.h"
#include "coordinator/supervise/runtime_record.h"
#include "coordinator/supervise/scratch.h"
#include "coordinator/supervise/supervisor.h"
#include "coordinator/supervise/token.h"

namespace lockstep {
namespace {

struct RunArguments {
  std::string config, resume, out;
  std::vector<std::string> set;
  std::vector<std::string> inject;
  std::optional<int> workers;
  bool dry_run = false, settings = false, setting_names = false;
};

// What a launch needs beside the run itself.
struct Launch {
  PreparedRun run;
  std::string folder, token, scratch;
  bool resume = false;
};

// Shows the run while it is supervised. Owns its runtime record and its temporary folder: both are made once the
// coordinator is there, which removes them should this process be killed.
class RunView : public SupervisorView {
 public:
  RunView(const Launch& launch, const RuntimeRecords& records) : launch_(launch), records_(records) {}

  absl::Status OnReady(const std::string& address, pid_t coordinator) override {
    RuntimeRecord record;
    record.run_folder = launch_.folder;
    record.address = address;
    record.token = launch_.token;
    record.scratch = launch_.scratch;
    record.supervisor = IdentifyProcess(getpid());
    record.coordinator = IdentifyProcess(coordinator);
    RETURN_IF_ERROR(MakeScratch(launch_.scratch));
    RETURN_IF_ERROR(records_.Write(record));
    address_ = address;
    return absl::OkStatus();
  }

  void OnStarted() override {
    // After the last fork: gRPC has threads.
    client_ = std::make_unique<OperatorClient>(address_, launch_.token);
    poller_ = std::make_unique<StatusPoller>(client_.get(), &screen_);
  }

  void OnNotice(const std::string& line) override { screen_.Line(line); }

  void OnRunEnded() override {
    if (poller_ != nullptr) poller_->Finish();
  }

  void CleanUp() override {
    FileSystem::Real()->RemoveAll(launch_.scratch).IgnoreError();
    records_.Remove(launch_.folder);
  }

  // Stops asking, and returns the last answer.
  StatusReply Close() {
    StatusReply last = poller_ == nullptr ? StatusReply() : poller_->latest();
    poller_.reset();
    screen_.Clear();
    return last;
  }

 private:
  const Launch& launch_;
  const RuntimeRecords& records_;
  std::string address_;
  Screen screen_;
  std::unique_ptr<OperatorClient> client_;
  std::unique_ptr<StatusPoller> poller_;
};

SupervisorOptions OptionsOf(const Launch& launch) {
  SupervisorOptions options;
  options.coordinator_log = JoinPath(launch.folder, "log/coordinator.log");
  options.mpirun_log = JoinPath(launch.folder, "log/mpirun.log");
  options.coordinator.argv = {OwnProgram(),      "serve",
                              "--run-folder",    launch.folder,
                              "--scratch",       launch.scratch,
                              "--train-samples", absl::StrCat(launch.run.train_samples),
                              "--val-samples",   absl::StrCat(launch.run.val_samples),
                              "--data-digest",   launch.run.data_digest};
  if (launch.resume) options.coordinator.argv.push_back("--go-on");
  options.coordinator.environment = {{kTokenVariable, launch.token}};
  options.coordinator.output = options.coordinator_log;
  options.mpirun = [&launch, log = options.mpirun_log](const std::string& address) {
    MpirunOptions mpirun;
    mpirun.workers = launch.run.config.workers();
    mpirun.threads = launch.run.config.threads();
    mpirun.worker_program = WorkerProgram();
    mpirun.arguments = {"--coordinator", address};
    mpirun.token = launch.token;
    mpirun.scratch = launch.scratch;
    mpirun.output = log;
    mpirun.cores = UsableCores();
    return MpirunCommand(mpirun);
  };
  return options;
}

WorkerDeath WithPid(WorkerDeath death, const StatusReply& last) {
  for (const WorkerStatus& worker : last.workers()) {
    if (death.pid == 0 && worker.rank() == death.rank) death.pid = worker.pid();
  }
  return death;
}

std::string FirstLine(const Launch& launch) {
  const RunConfig& config = launch.run.config;
  return absl::StrCat(launch.folder, ": ", CountText(int64_t{config.workers()}, "worker"), ", ",
                      config.data().global_batch_size(), " samples a step, ",
                      CountText(static_cast<double>(launch.run.train_samples)), " to train, ",
                      CountText(static_cast<double>(launch.run.val_samples)), " to validate");
}

absl::StatusOr<int> Supervise(Launch launch, SignalWatch* signals) {
  ASSIGN_OR_RETURN(const RuntimeRecords records, RuntimeRecords::Open());
  records.Sweep();
  SweepScratch(records.folder());
  ASSIGN_OR_RETURN(launch.token, MakeToken());
  launch.scratch = ScratchPath(records.folder());
  std::cout << FirstLine(launch) << std::endl;
  RunView view(launch, records);
  SupervisedEnd end = Supervisor(OptionsOf(launch), signals, &view).Run();
  const StatusReply last = view.Close();
  // Nothing was trained: with what was wrong mended, the same command works.
  if (end.exit_code == kExitBadUsage && !launch.resume) RemoveRunFolder(launch.folder);
  if (end.killed_worker.has_value()) end.why = DescribeWorkerDeath(WithPid(*end.killed_worker, last));
  if (end.started) return PrintEndOfRun(launch.folder, end.exit_code, end.why);
  std::cerr << "lockstep: " << end.why << std::endl;
  return end.exit_code;
}

absl::StatusOr<Launch> Prepare(const RunArguments& arguments) {
  Launch launch;
  launch.resume = !arguments.resume.empty();
  if (launch.resume) {
    ASSIGN_OR_RETURN(launch.folder, FindRunFolder(arguments.resume));
    ASSIGN_OR_RETURN(launch.run, PrepareResume(launch.folder, arguments.set, arguments.workers));
  } else {
    ASSIGN_OR_RETURN(launch.run, PrepareRun(arguments.config, arguments.set, arguments.workers));
  }
  RETURN_IF_ERROR(CheckDevice(launch.run.config));
  return launch;
}

absl::StatusOr<int> RunChecked(RunArguments arguments) {
  if (!arguments.inject.empty()) {
    ASSIGN_OR_RETURN(arguments.set.emplace_back(), InjectOverride(arguments.inject));
  }
  ASSIGN_OR_RETURN(Launch launch, Prepare(arguments));
  if (arguments.dry_run) {
    ASSIGN_OR_RETURN(const std::string plan, DescribePlan(launch.run));
    std::cout << plan << std::flush;
    return kExitDone;
  }
  ASSIGN_OR_RETURN(SignalWatch signals, SignalWatch::Start());
  if (launch.resume) {
    RETURN_IF_ERROR(SaveRunConfig(launch.folder, launch.run.config));
  } else {
    ASSIGN_OR_RETURN(launch.folder, MakeRunFolder(arguments.out, launch.run.config, absl::Now()));
  }
  return Supervise(std::move(launch), &signals);
}

int RunCommand(const RunArguments& arguments) {
  if (arguments.settings) {
    std::cout << DescribeSettings() << std::flush;
    return kExitDone;
  }
  if (arguments.setting_names) {
    for (const std::string& name : SettingNames()) std::cout << name << "\n";
    return kExitDone;
  }
  if (arguments.config.empty() == arguments.resume.empty()) {
    return Fail(absl::InvalidArgumentError("lockstep run takes either a CONFIG or --resume RUN"));
  }
  if (!arguments.resume.empty() && !arguments.out.empty()) {
    return Fail(absl::InvalidArgumentError("--out: a resumed run keeps its folder; leave it out"));
  }
  const absl::StatusOr<int> code = RunChecked(arguments);
  return code.ok() ? *code : Fail(code.status());
}

}  // namespace

void AddRun(CLI::App* app, Action* action) {
  CLI::App* command =
      app->add_subcommand("run", "Train: starts the coordinator and the workers, and watches over them");
  auto arguments = std::make_shared<RunArguments>();
  command->add_option("CONFIG", arguments->config, "YAML file of the run")->type_name("");
  command->add_option("--resume", arguments->resume, "Go on with this run from its last checkpoint")->type_name("RUN");
  command->add_option("--workers", arguments->workers, "Worker processes; wins over the config")
      ->type_name("N")
      ->check(CLI::Range(1, 100000).description(""));
  command->add_option("--out", arguments->out, "The run's folder: new or empty (default runs/<name>-<time>)")
      ->type_name("DIR");
  command->add_option("--set", arguments->set, "Override a setting: path.to.field=value; may be given more than once")
      ->type_name("K=V")
      ->take_all()
      ->allow_extra_args(false);
  command
      ->add_option("--inject", arguments->inject,
                   "Put a fault in, to learn or to test: slow-rank=1:20ms, jitter=20ms, slow-input=0:20ms, "
                   "compute=x1.5, @100-200 for some steps; may be given more than once")
      ->type_name("FAULT")
      ->take_all()
      ->allow_extra_args(false);
  command->add_flag("--dry-run", arguments->dry_run, "Show the resolved config and the plan; start nothing");
  command->add_flag("--settings", arguments->settings, "List every setting of a config");
  command->add_flag("--setting-names", arguments->setting_names)->group("");  // for the shell's completion
  command->callback([=] { *action = [arguments] { return RunCommand(*arguments); }; });
}

}  // namespace lockstep
