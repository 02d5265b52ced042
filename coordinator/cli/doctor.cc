#include "coordinator/launch/doctor.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/launch_flags.h"
#include "coordinator/cli/prepare.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/cli/worker_program.h"
#include "coordinator/launch/lab.h"
#include "coordinator/observe/text.h"

namespace lockstep {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::Duration kHost = absl::Seconds(60);  // LibTorch from a cold disk
constexpr absl::Duration kLinks = absl::Milliseconds(1500);
// Of a parameter: itself, its gradient, and two more for Adam; checkpoints have all but the gradient.
constexpr int64_t kInMemory = 16, kInCheckpoint = 12, kShared = 8;
constexpr int64_t kKept = 3;  // checkpoints

struct Arguments {
  std::string config, out;
  std::vector<std::string> set;
  std::optional<int> workers;
  ClusterRequest cluster;
  bool json = false, here = false, quick = false;
  std::string link;
};

// LibTorch's own answer is left out of a quick look.
HostReport ReportOfThisHost(const std::string& folder, int64_t checkpoints_bytes, bool quick) {
  HostReport report = LookAtThisHost(folder, checkpoints_bytes);
  if (quick) {
    report.steal = 0;  // at the start of a run a moment says little, and nothing can be done
    return report;
  }
  AddPackages(&report);
  report.probed = true;
  report.worker = FindWorkerProgram();
  if (report.worker.empty()) return report;
  const absl::StatusOr<Captured> said = RunWorker({"--probe"}, "", /*errors_too=*/true);
  const Json probe = said.ok() && said->exit_code == 0 ? Json::parse(said->output, nullptr, false) : Json();
  if (!probe.is_object()) {
    report.trouble = said.ok() ? said->output.substr(0, said->output.find('\n')) : std::string(said.status().message());
    return report;
  }
  report.worker_build = probe.value("build", "");
  // The library's own version, and which build of it this host has.
  report.torch = probe.value("torch", "");
  const size_t version = report.torch_package.find('=');
  if (version != std::string::npos) absl::StrAppend(&report.torch, " (", report.torch_package.substr(version + 1), ")");
  report.blas = probe.value("blas", "");
  report.blas_warning = probe.value("warning", "");
  return report;
}

// Where a host has lockstep and lockstep-worker, if not where they are here.
std::string FolderOn(const HostSlots& host) {
  return host.worker.empty() ? "" : std::filesystem::path(host.worker).parent_path().string();
}

std::string ProgramOn(const HostSlots& host) {
  return host.worker.empty() ? OwnProgram() : JoinPath(FolderOn(host), "lockstep");
}

// The report that a host gives of itself.
absl::StatusOr<HostReport> AskHost(const HostSlots& host, const Agent& agent, bool quick) {
  ChildOptions child;
  child.argv = agent.CommandOn(host.host, false, {ProgramOn(host), "doctor", "--here"});
  if (quick) child.argv.push_back("--quick");
  child.errors_too = true;
  ASSIGN_OR_RETURN(const Captured said, RunAndCapture(child, "", kHost));
  for (const absl::string_view line : absl::StrSplit(said.output, '\n', absl::SkipEmpty())) {
    if (absl::StartsWith(line, "{")) return ParseHostReport(line);
  }
  std::string output = absl::StrReplaceAll(said.output, {{"\r", ""}});  // ssh ends its own lines as terminals do
  absl::StripTrailingAsciiWhitespace(&output);
  return absl::UnavailableError(output.empty() ? absl::StrCat("ended with exit code ", said.exit_code) : output);
}

// Those that are kept, the best, and the one that is being written. Where all are kept nobody knows how many they will
// be; then the default.
int64_t CheckpointsAtOnce(const RunConfig& config) {
  const int64_t kept = config.checkpoint().keep_last();
  return 2 + (kept > 0 ? kept : kKept);
}

// Of its model and data; a quick look leaves them out.
absl::Status AddSizes(const Arguments& arguments, std::optional<int> workers, RunNeeds* needs) {
  ASSIGN_OR_RETURN(const PreparedRun run, PrepareRun(arguments.config, arguments.set, {workers}));
  ASSIGN_OR_RETURN(const std::string answer, AskWorker({"--needs"}, ConfigToYaml(run.config)));
  const Json worker = Json::parse(answer, nullptr, false);
  for (const char* field : {"parameters", "process_bytes", "activation_bytes", "input_bytes", "address_bytes"}) {
    if (worker.is_object() && worker.contains(field) && worker[field].is_number_integer()) continue;
    return absl::InternalError(absl::StrCat("lockstep-worker --needs: ", field, " is missing in: ", answer));
  }
  const auto bytes = [&worker](const char* field) { return worker[field].get<int64_t>(); };
  const auto parameters = worker["parameters"].get<int64_t>();
  needs->threads = run.config.threads();
  needs->memory_bytes = kInMemory * parameters + bytes("process_bytes");
  needs->batch_size = static_cast<int>(run.config.data().global_batch_size() / run.config.workers());
  needs->global_batch =
      run.config.data().global_batch_size() != int64_t{run.config.data().batch_size()} * run.config.workers();
  needs->batch_bytes = bytes("activation_bytes") + bytes("input_bytes");
  needs->address_bytes = bytes("address_bytes") + needs->memory_bytes + needs->batch_bytes;
  needs->file_bytes = kInCheckpoint * parameters;
  needs->checkpoints_bytes = CheckpointsAtOnce(run.config) * kInCheckpoint * parameters;
  needs->shared_bytes = kShared * parameters;
  return absl::OkStatus();
}

// In all, which share a global batch; none: the config says how many.
std::optional<int> WorkersOf(const Arguments& arguments, const Cluster& cluster) {
  int slots = 0;
  for (const HostSlots& host : cluster.hosts) {
    if (host.slots == 0) return arguments.workers;
    slots += host.slots;
  }
  return arguments.workers.value_or(slots);
}

// `unknown`: why lockstep-worker did not say what the run needs.
absl::StatusOr<RunNeeds> NeedsOf(const Arguments& arguments, const Cluster& cluster, absl::Status* unknown) {
  RunNeeds needs;
  needs.folder = arguments.out.empty() ? RunsFolder() : arguments.out;
  while (!needs.folder.empty() && !std::filesystem::exists(needs.folder)) {
    needs.folder = std::filesystem::absolute(needs.folder).parent_path();  // where it would be made
  }
  if (arguments.config.empty()) return needs;
  if (arguments.quick) {
    ASSIGN_OR_RETURN(const ConfigSize size, SizeOfConfig(arguments.config, "", arguments.set));
    needs.threads = std::max(1, size.threads);
    return needs;
  }
  *unknown = AddSizes(arguments, WorkersOf(arguments, cluster), &needs);
  // A config that is wrong is the person's to mend first.
  if (absl::IsInternal(*unknown) || absl::IsDeadlineExceeded(*unknown)) return needs;
  RETURN_IF_ERROR(*unknown);
  return needs;
}

Cluster ThisMachine() {
  char name[256] = "";
  gethostname(name, sizeof(name) - 1);
  Cluster cluster;
  cluster.hosts = {{name, 0}};
  cluster.here = {true};
  return cluster;
}

ExaminedHost LookHere(const Arguments& arguments, const RunNeeds& needs) {
  return {ThisMachine().hosts.front().host, ReportOfThisHost(needs.folder, needs.checkpoints_bytes, arguments.quick), 0,
          /*here=*/true, ""};
}

// A lab's hosts, which are this machine.
absl::Status LookAtLab(const Cluster& cluster, const Arguments& arguments, Examined* all) {
  ASSIGN_OR_RETURN(const Lab lab, Lab::Named(all->lab));
  ExaminedHost machine = LookHere(arguments, all->needs);
  const int hosts = static_cast<int>(cluster.hosts.size());
  const int workers = arguments.workers.value_or(std::max(hosts, machine.report.physical / all->needs.threads));
  for (int i = 0; i < hosts; ++i) {
    const HostSlots& host = cluster.hosts[i];
    const int share = workers / hosts + (i < workers % hosts ? 1 : 0);
    all->hosts.push_back({host.host, machine.report, host.slots > 0 ? host.slots : share, /*here=*/true, ""});
    machine.workers += all->hosts.back().workers;
    ASSIGN_OR_RETURN(all->hosts.back().cut, lab.IsCut(Lab::HostOf(host.host)));
  }
  all->this_machine = std::move(machine);
  return absl::OkStatus();
}

// All hosts at once, each for itself.
void AskHosts(const Cluster& cluster, const Arguments& arguments, Examined* all) {
  const std::vector<std::string> names = cluster.Names();
  std::vector<absl::StatusOr<HostReport>> reports(names.size());
  std::vector<std::thread> threads;
  if (std::find(cluster.here.begin(), cluster.here.end(), true) == cluster.here.end()) {
    all->this_machine = LookHere(arguments, all->needs);
  }
  for (size_t i = 0; i < names.size(); ++i) {
    threads.emplace_back([&, i] {
      reports[i] = cluster.here[i] ? ReportOfThisHost(all->needs.folder, all->needs.checkpoints_bytes, arguments.quick)
                                   : AskHost(cluster.hosts[i], cluster.agent, arguments.quick);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < names.size(); ++i) {
    if (!reports[i].ok()) {
      // At a run's start the host has just been made ready; that it lacks this program, or answers late, is no matter.
      if (arguments.quick) continue;
      all->unreached.push_back({names[i], std::string(reports[i].status().message()), FolderOn(cluster.hosts[i])});
      continue;
    }
    if (!cluster.memory.empty() && cluster.memory[i] > 0) {
      reports[i]->memory_total = std::min(reports[i]->memory_total, cluster.memory[i]);
      reports[i]->memory_available = std::min(reports[i]->memory_available, cluster.memory[i]);
    }
    const int slots = cluster.hosts[i].slots;
    const int share = arguments.workers.has_value()
                          ? (*arguments.workers + static_cast<int>(names.size()) - 1) / static_cast<int>(names.size())
                          : std::max(1, reports[i]->physical / all->needs.threads);
    all->slots_said = all->slots_said || slots > 0;
    all->hosts.push_back(
        {names[i], *std::move(reports[i]), slots > 0 ? slots : share, cluster.here[i], FolderOn(cluster.hosts[i])});
  }
}

// Of the hosts that answered.
absl::StatusOr<std::vector<LinkFigures>> LinksOf(const Cluster& cluster, const Examined& all) {
  std::vector<LinkHost> ends;
  for (size_t i = 0; i < cluster.hosts.size(); ++i) {
    const std::string& name = cluster.hosts[i].host;
    const bool answered =
        std::any_of(all.hosts.begin(), all.hosts.end(), [&](const ExaminedHost& host) { return host.name == name; });
    if (!answered) continue;
    ends.push_back(
        {name, cluster.addresses.empty() ? name : cluster.addresses[i], cluster.here[i], ProgramOn(cluster.hosts[i])});
  }
  if (ends.size() < 2) return std::vector<LinkFigures>();
  return MeasureLinks(ends, cluster.agent, kLinks);
}

Json ToJson(const Check& check) {
  return {{"host", check.host},   {"check", check.what}, {"ok", check.ok},          {"said", check.said},
          {"costs", check.costs}, {"mend", check.mend},  {"mend_on", check.mend_on}};
}

// As ssh-copy-id looks for them.
bool HasKey() {
  const char* home = std::getenv("HOME");
  const absl::StatusOr<std::vector<std::string>> names =
      FileSystem::Real()->List(JoinPath(home == nullptr ? "/" : home, ".ssh"));
  return names.ok() && std::any_of(names->begin(), names->end(), [](const std::string& name) {
           return absl::StartsWith(name, "id") && absl::EndsWith(name, ".pub");
         });
}

std::string ComplaintText(const Check& check) {
  return absl::StrCat(check.said, ": ", check.costs, "; mend", check.mend_on.empty() ? "" : ", on ", check.mend_on,
                      ": ", check.mend);
}

void Show(const std::vector<Check>& checks) {
  TextTable table({"", "host", "check", ""}, {true, true, true, true});
  for (const Check& check : checks) {
    table.Add({check.ok ? "ok" : "WRONG", check.host, check.what, check.ok ? check.said : ComplaintText(check)});
  }
  std::cout << table.Text("") << std::flush;
}

// At the start of a run: what is wrong alone.
void ShowComplaints(const std::vector<Check>& checks) {
  for (const Check& check : checks) {
    if (check.ok) continue;
    std::cout << check.host << (check.host.empty() ? "" : ": ") << check.what << ": " << ComplaintText(check) << "\n";
  }
  std::cout << std::flush;
}

absl::StatusOr<std::vector<Check>> Diagnose(const Arguments& arguments) {
  Examined all;
  Cluster cluster = ThisMachine();
  if (!arguments.cluster.empty() || !arguments.cluster.ssh.empty()) {
    std::vector<UnknownHost> unknown;
    ASSIGN_OR_RETURN(cluster, FindCluster(arguments.cluster, &unknown));
    for (const UnknownHost& one : unknown) {
      all.unreached.push_back({one.host.host, std::string(one.why.message()), FolderOn(one.host), false});
    }
  }
  absl::Status unknown;
  ASSIGN_OR_RETURN(all.needs, NeedsOf(arguments, cluster, &unknown));
  all.network = cluster.network;
  all.agent = cluster.agent;
  all.lab = arguments.cluster.lab;
  all.program = OwnProgram();
  all.worker_program = WorkerProgram();
  all.has_key = HasKey();
  if (all.lab.empty()) {
    AskHosts(cluster, arguments, &all);
  } else {
    RETURN_IF_ERROR(LookAtLab(cluster, arguments, &all));
  }
  absl::Status measured;
  if (!arguments.quick) {
    absl::StatusOr<std::vector<LinkFigures>> links = LinksOf(cluster, all);
    measured = links.status();
    if (links.ok()) all.links = *std::move(links);
  }
  std::vector<Check> checks = Examine(all);
  if (!unknown.ok()) {
    checks.push_back({"", "needs", false, std::string(unknown.message()),
                      "memory, disk and limits are not held against it", "mend what is above, and ask again", ""});
  }
  if (!measured.ok()) {
    checks.push_back({"", "link", false, std::string(measured.message()), "nothing is known of the links",
                      "mend what is above, and ask again", ""});
  }
  return checks;
}

int Doctor(const Arguments& arguments) {
  if (!arguments.link.empty()) return ServeLinks(arguments.link);
  if (arguments.here) {
    std::cout << HostReportText(ReportOfThisHost("", 0, arguments.quick)) << std::endl;
    return kExitDone;
  }
  const absl::StatusOr<std::vector<Check>> checks = Diagnose(arguments);
  if (!checks.ok()) return Fail(checks.status());
  if (arguments.json) {
    Json list = Json::array();
    for (const Check& check : *checks) list.push_back(ToJson(check));
    std::cout << list.dump(2) << std::endl;
  } else if (arguments.quick) {
    ShowComplaints(*checks);
  } else {
    Show(*checks);
  }
  const bool well = std::all_of(checks->begin(), checks->end(), [](const Check& check) { return check.ok; });
  return well ? kExitDone : kExitFailed;
}

}  // namespace

void AddDoctor(CLI::App* app, Action* action) {
  CLI::App* command =
      app->add_subcommand("doctor", "What will make this machine or cluster slow or stuck, and what mends it");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("CONFIG", arguments->config, "The run that is to be trained (default: any)")->type_name("");
  command->add_option("--set", arguments->set, "Override a setting of it: path.to.field=value")
      ->type_name("K=V")
      ->take_all()
      ->allow_extra_args(false);
  command->add_option("--workers", arguments->workers, "Worker processes that are to run")
      ->type_name("N")
      ->check(CLI::Range(1, 100000).description(""));
  command->add_option("--out", arguments->out, "Where the run's folder is to be")->type_name("DIR");
  AddClusterFlags(command, &arguments->cluster);
  command->add_flag("--json", arguments->json, "As JSON");
  command->add_flag("--here", arguments->here)->group("");
  command->add_flag("--quick", arguments->quick)->group("");
  command->add_option("--link", arguments->link)->group("");
  command->footer("Exit code 1: something is wrong.");
  command->callback([=] { *action = [arguments] { return Doctor(*arguments); }; });
}

}  // namespace lockstep
