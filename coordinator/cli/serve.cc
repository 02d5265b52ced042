#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/cores.h"
#include "common/base/status.h"
#include "common/config/inject.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/end_of_run.h"
#include "coordinator/cli/launch_flags.h"
#include "coordinator/cli/prepare.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/cli/serve_loop.h"
#include "coordinator/cli/worker_program.h"
#include "coordinator/launch/reach.h"
#include "coordinator/observe/text.h"
#include "coordinator/service/server.h"
#include "coordinator/supervise/aftermath.h"
#include "coordinator/supervise/mpirun.h"
#include "coordinator/supervise/runtime_record.h"
#include "coordinator/supervise/token.h"

namespace lockstep {
namespace {

// By hand, people need time to type the workers' command.
constexpr absl::Duration kJoinByHand = absl::Minutes(10);
constexpr absl::Duration kAftermathPatience = absl::Milliseconds(1500), kClearTimeout = absl::Seconds(2);
// A coordinator without a supervisor is gone by then, whatever hangs.
constexpr unsigned kOrphanSeconds = 5;
constexpr int64_t kMaxCredentials = 256 << 10;

struct ServeArguments {
  std::string config, resume, out, listen = "127.0.0.1:0";
  std::vector<std::string> set;
  std::vector<std::string> inject;
  std::optional<int> workers;
  TlsFlags tls;
  // From `lockstep run`: the folder and its config.yaml are there, the data were looked at.
  std::string run_folder, scratch, credentials, socket, hosts_of_ranks;
  int ready_fd = -1, lifeline_fd = -1;
  int64_t train_samples = 0, val_samples = 0;
  std::string data_digest;
  bool go_on = false;
};

ServerOptions OptionsOf(const PreparedRun& run, const std::string& folder, const Credentials& credentials) {
  ServerOptions options;
  options.run_folder = folder;
  options.credentials = credentials;
  options.config = run.config;
  options.config_digest = run.digest;
  options.world = run.config.workers();
  options.train_samples = run.train_samples;
  options.val_samples = run.val_samples;
  options.data_digest = run.data_digest;
  return options;
}

// In a file where workers come from other hosts; else the token alone, in the environment.
absl::StatusOr<Credentials> SupervisedCredentials(const ServeArguments& arguments) {
  if (arguments.credentials.empty()) {
    Credentials credentials;
    const char* variable = std::getenv(kTokenVariable);
    credentials.token = variable == nullptr ? "" : variable;
    return credentials;
  }
  ASSIGN_OR_RETURN(const std::string text, FileSystem::Real()->Read(arguments.credentials, kMaxCredentials));
  return ParseCredentials(text);
}

absl::StatusOr<std::unique_ptr<CoordinatorServer>> StartSupervised(const ServeArguments& arguments) {
  PreparedRun run;
  ASSIGN_OR_RETURN(run.config, ConfigOfRun(arguments.run_folder));
  run.digest = ConfigDigest(run.config);
  run.train_samples = arguments.train_samples;
  run.val_samples = arguments.val_samples;
  run.data_digest = arguments.data_digest;
  ASSIGN_OR_RETURN(const Credentials credentials, SupervisedCredentials(arguments));
  ServerOptions options = OptionsOf(run, arguments.run_folder, credentials);
  options.listen = arguments.listen;
  options.local_socket = arguments.socket;
  options.resume = arguments.go_on;
  if (!arguments.hosts_of_ranks.empty()) {
    ASSIGN_OR_RETURN(const std::vector<HostSlots> hosts, ParseHosts(arguments.hosts_of_ranks));
    for (const HostSlots& one : hosts) options.hosts_of_ranks.insert(options.hosts_of_ranks.end(), one.slots, one.host);
  }
  return CoordinatorServer::Start(std::move(options));
}

// Where a run was on several. As far as they can be reached; else the next run there does it.
void ClearOtherHosts(const ServeArguments& arguments) {
  const absl::StatusOr<ClusterRequest> request = ReadClusterRequest(arguments.run_folder);
  if (!request.ok() || arguments.scratch.empty()) return;
  const absl::StatusOr<Cluster> cluster = FindCluster(*request);
  if (!cluster.ok()) return;
  ClearHosts(cluster->Names(), cluster->here, cluster->agent, arguments.scratch, kClearTimeout);
}

// With its supervisor dead, this process answers for what the run leaves behind.
int EndAsOrphan(const ServeArguments& arguments) {
  alarm(kOrphanSeconds);
  const absl::StatusOr<RuntimeRecords> records = RuntimeRecords::Open();
  if (!records.ok()) return Fail(records.status());
  const char* token = std::getenv(kTokenVariable);
  const ProcessMark mark = arguments.credentials.empty()
                               ? ProcessMark{kTokenVariable, token == nullptr ? "" : token}
                               : ProcessMark{kCredentialsVariable, HostCredentialsPath(arguments.scratch)};
  CleanUpAfterSupervisor(mark, arguments.scratch, arguments.run_folder, *records, kAftermathPatience);
  ClearOtherHosts(arguments);
  return kExitFailed;
}

// A resumed run may have been over before this launch: it needs no workers, and a supervisor hears `ended` alone.
bool IsOver(CoordinatorServer* server) { return server->Status(0).phase() == "ended"; }

int ServeSupervised(const ServeArguments& arguments) {
  absl::StatusOr<SignalWatch> signals = SignalWatch::Start();
  if (!signals.ok()) return Fail(signals.status());
  LifelineReader lifeline((UniqueFd(arguments.lifeline_fd)));
  const UniqueFd report(arguments.ready_fd);
  absl::StatusOr<std::unique_ptr<CoordinatorServer>> server = StartSupervised(arguments);
  if (!server.ok()) {
    const LifelineMessage refused{"refused", ExitCodeOf(server.status()), std::string(server.status().message())};
    return SayLast(refused, report.get(), &lifeline) ? Fail(server.status()) : EndAsOrphan(arguments);
  }
  if (!IsOver(server->get())) {
    // Where the supervisor is gone already, the lifeline says so at once.
    WriteLifelineMessage(report.get(), {"ready", 0, (*server)->address()}).IgnoreError();
  }
  const ServeLoopEnd end = ServeUntilEnded({server->get(), &*signals, &lifeline, report.get()});
  if (end.supervisor_gone) {
    const int code = EndAsOrphan(arguments);
    server->reset();
    return code;
  }
  return end.ended.exit_code();
}

// The address that workers elsewhere can use: an any-address names every host, and so none.
std::string AddressForWorkers(const std::string& address) {
  for (const char* any : {"0.0.0.0:", "[::]:"}) {
    if (!absl::StartsWith(address, any)) continue;
    char host[256] = "";
    gethostname(host, sizeof(host) - 1);
    return absl::StrCat(host, ":", address.substr(std::string(any).size()));
  }
  return address;
}

void PrintWhatToType(const PreparedRun& run, const std::string& folder, const std::string& address,
                     const std::string& credentials_file, bool tls) {
  std::cout << folder << ": waiting at " << address << " for " << CountText(int64_t{run.config.workers()}, "worker")
            << "; start " << (run.config.workers() == 1 ? "it" : "them") << " with:\n  mpirun -np "
            << run.config.workers() << (run.config.workers() > UsableCores() ? " --oversubscribe" : "")
            << " --bind-to none" << (geteuid() == 0 ? " --allow-run-as-root" : "") << " -x " << kCredentialsVariable
            << "=" << ShellWord(credentials_file) << " lockstep-worker --coordinator " << AddressForWorkers(address)
            << "\n";
  if (!IsLoopback(address)) {
    std::cout << "On other hosts put that file under the same path first, readable by you alone (scp -p).\n";
    if (!tls) std::cout << kWithoutTls << "\n";
  }
  std::cout << std::flush;
}

absl::StatusOr<PreparedRun> PrepareByHand(ServeArguments arguments, std::string* folder) {
  if (!arguments.inject.empty()) {
    ASSIGN_OR_RETURN(arguments.set.emplace_back(), InjectOverride(arguments.inject));
  }
  if (!arguments.resume.empty()) {
    ASSIGN_OR_RETURN(*folder, FindRunFolder(arguments.resume));
    ASSIGN_OR_RETURN(PreparedRun resumed, PrepareResume(*folder, arguments.set, {arguments.workers}));
    RETURN_IF_ERROR(SaveRunConfig(*folder, resumed.config));
    return resumed;
  }
  ASSIGN_OR_RETURN(PreparedRun run, PrepareRun(arguments.config, arguments.set, {arguments.workers}));
  ASSIGN_OR_RETURN(*folder, MakeRunFolder(arguments.out, run.config, absl::Now()));
  return run;
}

absl::StatusOr<int> ServeByHand(const ServeArguments& arguments, SignalWatch* signals) {
  if (const absl::Status listen = CheckListen(arguments.listen); !listen.ok()) {
    return absl::Status(listen.code(), absl::StrCat("--listen ", listen.message()));
  }
  std::string folder;
  ASSIGN_OR_RETURN(const PreparedRun run, PrepareByHand(arguments, &folder));
  ASSIGN_OR_RETURN(const RuntimeRecords records, RuntimeRecords::Open());
  records.Sweep();
  ASSIGN_OR_RETURN(const RunCredentials credentials, CredentialsFor(arguments.tls, IsLoopback(arguments.listen)));
  ServerOptions options = OptionsOf(run, folder, credentials.coordinator);
  options.listen = arguments.listen;
  if (credentials.coordinator.tls()) {
    ASSIGN_OR_RETURN(options.local_socket, records.SocketPath(folder));
  }
  options.resume = !arguments.resume.empty();
  options.join_timeout = kJoinByHand;
  absl::StatusOr<std::unique_ptr<CoordinatorServer>> started = CoordinatorServer::Start(std::move(options));
  if (!started.ok() && arguments.resume.empty()) RemoveRunFolder(folder);
  RETURN_IF_ERROR(started.status());
  std::unique_ptr<CoordinatorServer> server = *std::move(started);
  RuntimeRecord record;
  record.run_folder = folder;
  record.address = server->local_address();
  record.token = credentials.coordinator.token;
  record.coordinator = IdentifyProcess(getpid());
  RETURN_IF_ERROR(records.Write(record));
  ASSIGN_OR_RETURN(const std::string file, records.WriteCredentials(folder, CredentialsText(credentials.worker)));
  if (!IsOver(server.get())) PrintWhatToType(run, folder, server->address(), file, credentials.worker.tls());
  const RunEnded ended = ServeUntilEnded({server.get(), signals, nullptr, -1}).ended;
  server.reset();
  records.Remove(folder);
  if (ended.exit_code() == kExitBadUsage && arguments.resume.empty()) RemoveRunFolder(folder);
  return PrintEndOfRun(folder, ended.exit_code(), ended.why());
}

int Serve(const ServeArguments& arguments) {
  if (arguments.ready_fd >= 0) return ServeSupervised(arguments);
  if (arguments.config.empty() == arguments.resume.empty()) {
    return Fail(absl::InvalidArgumentError("lockstep serve takes either a CONFIG or --resume RUN"));
  }
  if (!arguments.resume.empty() && !arguments.out.empty()) {
    return Fail(absl::InvalidArgumentError("--out: a resumed run keeps its folder; leave it out"));
  }
  absl::StatusOr<SignalWatch> signals = SignalWatch::Start();
  if (!signals.ok()) return Fail(signals.status());
  const absl::StatusOr<int> code = ServeByHand(arguments, &*signals);
  return code.ok() ? *code : Fail(code.status());
}

}  // namespace

void AddServe(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand("serve", "The coordinator alone, for launching workers by hand");
  auto arguments = std::make_shared<ServeArguments>();
  command->add_option("CONFIG", arguments->config, "YAML file of the run")->type_name("");
  command->add_option("--resume", arguments->resume, "Go on with this run from its last checkpoint")->type_name("RUN");
  command->add_option("--listen", arguments->listen, "Address for the workers (default 127.0.0.1, any free port)")
      ->type_name("H:P");
  command->add_option("--workers", arguments->workers, "Worker processes")
      ->type_name("N")
      ->check(CLI::Range(1, 100000).description(""));
  command->add_option("--out", arguments->out, "The run's folder: new or empty")->type_name("DIR");
  command->add_option("--set", arguments->set, "Override a setting: path.to.field=value")
      ->type_name("K=V")
      ->take_all()
      ->allow_extra_args(false);
  command->add_option("--inject", arguments->inject, "Put a fault in, as lockstep run does")
      ->type_name("FAULT")
      ->take_all()
      ->allow_extra_args(false);
  AddTlsFlags(command, &arguments->tls);
  command->add_option("--run-folder", arguments->run_folder)->group("");
  command->add_option("--scratch", arguments->scratch)->group("");
  command->add_option("--credentials", arguments->credentials)->group("");
  command->add_option("--socket", arguments->socket)->group("");
  command->add_option("--hosts-of-ranks", arguments->hosts_of_ranks)->group("");
  command->add_option("--ready-fd", arguments->ready_fd)->group("");
  command->add_option("--lifeline-fd", arguments->lifeline_fd)->group("");
  command->add_option("--train-samples", arguments->train_samples)->group("");
  command->add_option("--val-samples", arguments->val_samples)->group("");
  command->add_option("--data-digest", arguments->data_digest)->group("");
  command->add_flag("--go-on", arguments->go_on)->group("");
  command->callback([=] { *action = [arguments] { return Serve(*arguments); }; });
}

}  // namespace lockstep
