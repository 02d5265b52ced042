#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/base/cores.h"
#include "common/base/file.h"
#include "common/base/host_folder.h"
#include "common/base/status.h"
#include "common/config/config.h"
#include "common/config/inject.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/end_of_run.h"
#include "coordinator/cli/launch_flags.h"
#include "coordinator/cli/prepare.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/cli/screen.h"
#include "coordinator/cli/worker_program.h"
#include "coordinator/launch/reach.h"
#include "coordinator/launch/slurm.h"
#include "coordinator/observe/text.h"
#include "coordinator/supervise/mpirun.h"
#include "coordinator/supervise/runtime_record.h"
#include "coordinator/supervise/scratch.h"
#include "coordinator/supervise/supervisor.h"
#include "coordinator/supervise/token.h"

namespace lockstep {
namespace {

// For all hosts, at once. One that a cut link hides is left to the next run there.
constexpr absl::Duration kPrepareTimeout = absl::Seconds(30), kClearTimeout = absl::Milliseconds(1500);
constexpr absl::Duration kLaterThanRanks = absl::Seconds(10);
constexpr absl::Duration kLeastPatience = absl::Seconds(5);  // a busy host's sshd takes a second or two
constexpr int64_t kMaxDoctorLog = 64 << 10;

struct RunArguments {
  std::string config, resume, out;
  std::vector<std::string> set;
  std::vector<std::string> inject;
  std::optional<int> workers;
  ClusterRequest cluster;
  TlsFlags tls;
  bool allow_root = false;
  bool dry_run = false, settings = false, setting_names = false;
};

// What a launch needs beside the run itself.
struct Launch {
  PreparedRun run;
  std::string folder, scratch;
  RunCredentials credentials;
  ClusterRequest request;
  std::optional<Cluster> cluster;  // unset: this machine alone
  Placement placement;
  std::string socket;  // for this user's commands, where workers come from other hosts
  bool resume = false;
  const std::string& token() const { return credentials.coordinator.token; }
};

void ClearCluster(const Launch& launch) {
  const Cluster& cluster = *launch.cluster;
  ClearHosts(cluster.Names(), cluster.here, cluster.agent, launch.scratch, kClearTimeout);
}

// Those of `hosts`, each with its ranks in their order, that have any which has not joined. Of many ranks the last are
// not in the status; without any it says nothing yet.
std::set<std::string> HostsToJoin(const std::vector<HostSlots>& hosts, const StatusReply& status) {
  std::set<std::string> missing;
  int rank = 0;
  for (const HostSlots& one : hosts) {
    for (const int end = rank + one.slots; rank < end; ++rank) {
      const bool shown = rank < status.workers_size();
      if (shown ? !status.workers(rank).joined() : status.workers_size() == 0) missing.insert(one.host);
    }
  }
  return missing;
}

std::string DoctorLog(const Launch& launch) { return JoinPath(launch.folder, "log/doctor.log"); }

// Shows the run while it is supervised. Owns its runtime record and its temporary folder: both are made once the
// coordinator is there, which removes them should this process be killed.
class RunView : public SupervisorView {
 public:
  RunView(const Launch& launch, const RuntimeRecords& records) : launch_(launch), records_(records) {}

  absl::Status OnReady(const std::string& address, pid_t coordinator) override {
    RuntimeRecord record;
    record.run_folder = launch_.folder;
    address_ = launch_.socket.empty() ? address : absl::StrCat("unix:", launch_.socket);
    record.address = address_;
    record.token = launch_.token();
    record.scratch = launch_.scratch;
    record.supervisor = IdentifyProcess(getpid());
    record.coordinator = IdentifyProcess(coordinator);
    // On this machine too, which may be none of the cluster's hosts.
    RETURN_IF_ERROR(launch_.cluster.has_value() ? FileSystem::Real()->MakeFolders(launch_.scratch, 0700)
                                                : MakeScratch(launch_.scratch));
    return records_.Write(record);
  }

  void OnStarted() override {
    // After the last fork: gRPC has threads.
    client_ = std::make_unique<OperatorClient>(address_, launch_.token());
    poller_ = std::make_unique<StatusPoller>(client_.get(), &screen_);
  }

  std::vector<std::string> AwaitedHosts() override {
    if (!launch_.cluster.has_value()) return {};
    const Cluster& cluster = *launch_.cluster;
    std::set<std::string> awaited = HostsToJoin(launch_.placement.hosts, poller_->latest());
    for (size_t i = 0; i < cluster.hosts.size(); ++i) {
      if (cluster.here[i]) awaited.erase(cluster.hosts[i].host);
    }
    return {awaited.begin(), awaited.end()};
  }

  void OnNotice(const std::string& line) override { screen_.Line(line); }

  void OnBesideEnded() override {
    const absl::StatusOr<std::string> said = FileSystem::Real()->Read(DoctorLog(launch_), kMaxDoctorLog);
    if (!said.ok()) return;
    for (const absl::string_view line : absl::StrSplit(*said, '\n', absl::SkipEmpty())) {
      screen_.Line(absl::StrCat("doctor: ", line));
    }
  }

  void OnRunEnded() override {
    if (poller_ != nullptr) poller_->Finish();
  }

  void CleanUp() override {
    if (launch_.cluster.has_value()) ClearCluster(launch_);
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

// What the coordinator and the workers of a run on several hosts are told beside the rest.
void AddCluster(const Launch& launch, const std::string& credentials, SupervisorOptions* options) {
  std::vector<std::string>& argv = options->coordinator.argv;
  argv.insert(argv.begin(), launch.cluster->prefix.begin(), launch.cluster->prefix.end());
  argv.insert(argv.end(),
              {"--listen", absl::StrCat(launch.cluster->network.listen, ":0"), "--credentials", credentials});
  argv.insert(argv.end(), {"--socket", launch.socket, "--hosts-of-ranks", HostsText(launch.placement.hosts)});
}

MpirunOptions MpirunOf(const Launch& launch, const std::string& address, const std::string& log) {
  MpirunOptions mpirun;
  mpirun.workers = launch.run.config.workers();
  mpirun.threads = launch.run.config.threads();
  mpirun.worker_program = launch.cluster.has_value() ? HostWorkerPath(launch.scratch) : WorkerProgram();
  mpirun.arguments = {"--coordinator", address};
  mpirun.scratch = launch.scratch;
  mpirun.output = log;
  mpirun.cores = UsableCores();
  if (launch.cluster.has_value()) {
    Describe(*launch.cluster, launch.placement, &mpirun);
    // Later than the ranks, who know better which of them was lost.
    mpirun.silence = absl::Seconds(launch.run.config.communication().timeout()) + kLaterThanRanks;
    mpirun.environment.emplace_back(kCredentialsVariable, HostCredentialsPath(launch.scratch));
    mpirun.environment.emplace_back(kHostFolderVariable, launch.scratch);
  } else {
    mpirun.token = launch.token();
  }
  return mpirun;
}

// Looks at the hosts once more while the ranks start; what is wrong is said, and nothing is held up.
ChildOptions DoctorOf(const Launch& launch) {
  ChildOptions doctor;
  doctor.argv = {"nice",
                 "-n",
                 "19",
                 OwnProgram(),
                 "doctor",
                 JoinPath(launch.folder, "config.yaml"),
                 "--quick",
                 "--out",
                 launch.folder,
                 "--workers",
                 absl::StrCat(launch.run.config.workers())};
  for (const std::string& word : ClusterWords(launch.request)) doctor.argv.push_back(word);
  doctor.output = DoctorLog(launch);
  // As the workers have, by which the coordinator finds what a killed supervisor leaves.
  if (launch.cluster.has_value()) {
    doctor.environment = {{kCredentialsVariable, HostCredentialsPath(launch.scratch)}};
  } else {
    doctor.environment = {{kTokenVariable, launch.token()}};
  }
  return doctor;
}

// Slurm has its own watch over its nodes, and an srun may wait for others.
HostWatch::Options WatchOf(const Launch& launch) {
  HostWatch::Options watch;
  if (launch.cluster->slurm) return watch;
  watch.patience = std::max(absl::Seconds(launch.run.config.communication().timeout()), kLeastPatience);
  watch.question = [&launch](const std::string& host) {
    ChildOptions child = HostQuestion(host, launch.cluster->agent);
    child.environment = {{kCredentialsVariable, HostCredentialsPath(launch.scratch)}};  // as in DoctorOf
    return child;
  };
  return watch;
}

SupervisorOptions OptionsOf(const Launch& launch, const std::string& credentials) {
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
  if (launch.cluster.has_value()) {
    AddCluster(launch, credentials, &options);
    options.hosts = WatchOf(launch);
  } else {
    options.coordinator.environment = {{kTokenVariable, launch.token()}};
  }
  options.coordinator.output = options.coordinator_log;
  options.mpirun = [&launch, log = options.mpirun_log](const std::string& address) {
    return MpirunCommand(MpirunOf(launch, address, log));
  };
  FileSystem::Real()->RemoveAll(DoctorLog(launch)).IgnoreError();  // of the launch before
  options.beside = DoctorOf(launch);
  return options;
}

WorkerDeath WithPid(WorkerDeath death, const StatusReply& last) {
  for (const WorkerStatus& worker : last.workers()) {
    if (death.pid == 0 && worker.rank() == death.rank) death.pid = worker.pid();
  }
  return death;
}

// "a:4,b:4 over 10.1.0.0/24".
std::string PlaceText(const Launch& launch) {
  const std::vector<std::string>& networks = launch.cluster->network.networks;
  return absl::StrCat(HostsText(launch.placement.hosts), networks.empty() ? "" : " over ",
                      absl::StrJoin(networks, ", "));
}

std::string FirstLine(const Launch& launch) {
  const RunConfig& config = launch.run.config;
  return absl::StrCat(launch.folder, ": ", CountText(int64_t{config.workers()}, "worker"), ", ",
                      config.data().global_batch_size(), " samples a step, ",
                      CountText(static_cast<double>(launch.run.train_samples)), " to train, ",
                      CountText(static_cast<double>(launch.run.val_samples)), " to validate",
                      launch.cluster.has_value() ? absl::StrCat("; on ", PlaceText(launch)) : "");
}

absl::StatusOr<int> Supervise(Launch* launch, const RuntimeRecords& records, SignalWatch* signals) {
  std::string credentials;  // the coordinator's, in a file that is removed with the runtime record
  if (launch->cluster.has_value()) {
    ASSIGN_OR_RETURN(credentials,
                     records.WriteCredentials(launch->folder, CredentialsText(launch->credentials.coordinator)));
    ASSIGN_OR_RETURN(launch->socket, records.SocketPath(launch->folder));
  } else {
    launch->scratch = ScratchPath(records.folder());
  }
  std::cout << FirstLine(*launch) << std::endl;
  if (launch->cluster.has_value() && !launch->credentials.coordinator.tls()) std::cout << kWithoutTls << std::endl;
  RunView view(*launch, records);
  SupervisedEnd end = Supervisor(OptionsOf(*launch, credentials), signals, &view).Run();
  const StatusReply last = view.Close();
  // Nothing was trained: with what was wrong mended, the same command works.
  if (end.exit_code == kExitBadUsage && !launch->resume) RemoveRunFolder(launch->folder);
  if (end.killed_worker.has_value()) end.why = DescribeWorkerDeath(WithPid(*end.killed_worker, last));
  if (end.started) return PrintEndOfRun(launch->folder, end.exit_code, end.why);
  std::cerr << "lockstep: " << end.why << std::endl;
  return end.exit_code;
}

// The hosts that are asked for; of a resume, if none are, those of before.
absl::StatusOr<ClusterRequest> RequestOf(const RunArguments& arguments, const std::string& folder) {
  if (!arguments.cluster.empty()) return arguments.cluster;
  const absl::StatusOr<ClusterRequest> before = folder.empty() ? absl::NotFoundError("") : ReadClusterRequest(folder);
  if (absl::IsNotFound(before.status())) {
    if (!arguments.cluster.ssh.empty()) RETURN_IF_ERROR(FindCluster(arguments.cluster, nullptr).status());
    return ClusterRequest();
  }
  if (!before.ok()) return before;
  if (before->slurm && !InSlurm()) {
    return absl::FailedPreconditionError(absl::StrCat(
        folder, ": was started as a job of Slurm's; submit it again, or say where to go on (--hosts localhost)"));
  }
  if (!before->hostfile.empty() && !std::filesystem::is_regular_file(before->hostfile)) {
    return absl::FailedPreconditionError(absl::StrCat(folder, ": its hostfile ", before->hostfile,
                                                      " is not there any more; give --hosts or --hostfile"));
  }
  // As in CheckRemembered.
  if (before->ssh != arguments.cluster.ssh) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder, ": its hosts were reached by --ssh ", ShellWord(before->ssh.empty() ? "ssh" : before->ssh),
                     "; say that again to go on there, or give --hosts or --hostfile"));
  }
  return before;
}

// A folder may be another's: no program that it names is executed, by way of its hostfile either.
absl::Status CheckRemembered(const Cluster& cluster, const ClusterRequest& request) {
  for (const HostSlots& one : cluster.hosts) {
    if (one.worker.empty()) continue;
    return absl::FailedPreconditionError(absl::StrCat("the run's hostfile has worker=", one.worker, " for ", one.host,
                                                      "; say --hostfile ", ShellWord(request.hostfile),
                                                      " again to start that there, or give --hosts"));
  }
  return absl::OkStatus();
}

// Every host ready for the run's workers: `launch->placement`. Whatever follows, ClearHosts is then owed.
absl::Status PrepareCluster(const RunArguments& arguments, Launch* launch) {
  ASSIGN_OR_RETURN(const ConfigSize size, SizeOfConfig(arguments.config, launch->folder, arguments.set));
  ASSIGN_OR_RETURN(Cluster cluster, FindCluster(launch->request));
  if (arguments.cluster.empty()) RETURN_IF_ERROR(CheckRemembered(cluster, launch->request));
  ASSIGN_OR_RETURN(launch->scratch, HostScratchPath());
  HostNeeds needs;
  needs.worker_program = WorkerProgram();
  for (const HostSlots& one : cluster.hosts) {
    if (!one.worker.empty()) needs.worker_of[one.host] = one.worker;
  }
  needs.scratch = launch->scratch;
  needs.credentials = CredentialsText(launch->credentials.worker);
  ASSIGN_OR_RETURN(const std::vector<HostFacts> facts,
                   PrepareHosts(cluster.Names(), cluster.here, cluster.agent, needs, kPrepareTimeout));
  std::vector<std::vector<std::string>> addresses;
  for (const HostFacts& one : facts) addresses.push_back(one.addresses);
  NarrowNetworks(cluster.addresses, addresses, &cluster.network);
  launch->cluster = std::move(cluster);
  ASSIGN_OR_RETURN(launch->placement,
                   PlaceWorkers(*launch->cluster, facts, arguments.workers.value_or(size.workers), size.threads));
  return absl::OkStatus();
}

// Reads the config and looks at the data.
absl::Status PrepareTraining(const RunArguments& arguments, const LaunchSize& size, Launch* launch) {
  ASSIGN_OR_RETURN(launch->run, launch->resume ? PrepareResume(launch->folder, arguments.set, size)
                                               : PrepareRun(arguments.config, arguments.set, size));
  return CheckDevice(launch->run.config);
}

// Of hosts, where the workers would be: for that they are made ready as for a run.
absl::Status ShowPlan(const RunArguments& arguments, Launch* launch) {
  ASSIGN_OR_RETURN(launch->request, RequestOf(arguments, launch->folder));
  LaunchSize size = {arguments.workers};
  if (!launch->request.empty()) {
    RETURN_IF_ERROR(PrepareCluster(arguments, launch));
    size = {launch->placement.workers(), launch->placement.threads};
  }
  RETURN_IF_ERROR(PrepareTraining(arguments, size, launch));
  ASSIGN_OR_RETURN(const std::string plan, DescribePlan(launch->run));
  std::cout << plan;
  if (launch->cluster.has_value()) std::cout << "# on " << PlaceText(*launch) << "\n";
  std::cout << std::flush;
  return absl::OkStatus();
}

absl::Status MakeFolder(const RunArguments& arguments, Launch* launch) {
  if (launch->resume) {
    RETURN_IF_ERROR(SaveRunConfig(launch->folder, launch->run.config));
  } else {
    ASSIGN_OR_RETURN(launch->folder, MakeRunFolder(arguments.out, launch->run.config, absl::Now()));
  }
  return SaveClusterRequest(launch->folder, launch->request);
}

bool WasTold(SignalWatch* signals) {
  const std::vector<int> seen = signals->Read();
  return std::any_of(seen.begin(), seen.end(), [](int number) { return number != SIGCHLD; });
}

absl::StatusOr<int> Start(const RunArguments& arguments, Launch* launch) {
  RETURN_IF_ERROR(CheckRoot(arguments.allow_root));
  ASSIGN_OR_RETURN(const RuntimeRecords records, RuntimeRecords::Open());
  records.Sweep();
  SweepScratch(records.folder());
  ASSIGN_OR_RETURN(launch->request, RequestOf(arguments, launch->folder));
  const ClusterRequest& request = launch->request;
  RETURN_IF_ERROR(CheckTlsFlags(arguments.tls, !request.empty()));
  ASSIGN_OR_RETURN(launch->credentials, CredentialsFor(arguments.tls, request.empty()));
  // From here on a signal leaves nothing on other hosts.
  ASSIGN_OR_RETURN(SignalWatch signals, SignalWatch::Start());
  LaunchSize size = {arguments.workers};
  if (!request.empty()) {
    RETURN_IF_ERROR(PrepareCluster(arguments, launch));
    size = {launch->placement.workers(), launch->placement.threads};
  }
  RETURN_IF_ERROR(PrepareTraining(arguments, size, launch));
  if (WasTold(&signals)) return absl::CancelledError("stopped before it began");
  RETURN_IF_ERROR(MakeFolder(arguments, launch));
  return Supervise(launch, records, &signals);
}

absl::StatusOr<int> RunChecked(RunArguments arguments) {
  if (!arguments.inject.empty()) {
    ASSIGN_OR_RETURN(arguments.set.emplace_back(), InjectOverride(arguments.inject));
  }
  Launch launch;
  launch.resume = !arguments.resume.empty();
  if (launch.resume) {
    ASSIGN_OR_RETURN(launch.folder, FindRunFolder(arguments.resume));
  }
  if (arguments.dry_run) {
    const absl::Status shown = ShowPlan(arguments, &launch);
    if (launch.cluster.has_value()) ClearCluster(launch);
    RETURN_IF_ERROR(shown);
    return kExitDone;
  }
  absl::StatusOr<int> code = Start(arguments, &launch);
  // Whatever came between, the hosts were made ready.
  if (!code.ok() && launch.cluster.has_value()) ClearCluster(launch);
  return code;
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
  command
      ->add_option("--workers", arguments->workers,
                   "Worker processes; wins over the config (default: one a core, or every slot of the hosts)")
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
  AddClusterFlags(command, &arguments->cluster);
  AddTlsFlags(command, &arguments->tls);
  command->add_flag("--allow-root", arguments->allow_root, "Workers may run as root; in a container they may anyway");
  command->add_flag("--dry-run", arguments->dry_run, "Show the resolved config and the plan; start nothing");
  command->add_flag("--settings", arguments->settings, "List every setting of a config");
  command->add_flag("--setting-names", arguments->setting_names)->group("");  // for the shell's completion
  command->callback([=] { *action = [arguments] { return RunCommand(*arguments); }; });
}

}  // namespace lockstep
