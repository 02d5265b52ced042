#include "coordinator/launch/doctor.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/launch_flags.h"
#include "coordinator/cli/prepare.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/cli/worker_program.h"
#include "coordinator/observe/text.h"

namespace lockstep {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::Duration kHost = absl::Seconds(60);  // LibTorch from a cold disk
constexpr absl::Duration kLinks = absl::Milliseconds(1500);
// Of a parameter: itself, its gradient, and two more for Adam; checkpoints have all but the gradient.
constexpr int64_t kInMemory = 16, kInCheckpoint = 12, kShared = 8;

struct Arguments {
  std::string config, out;
  std::vector<std::string> set;
  std::optional<int> workers;
  ClusterRequest cluster;
  bool json = false, here = false;
  std::string link;
};

std::string MpiVersion() {
  ChildOptions child;
  child.argv = {"mpirun", "--version"};
  const absl::StatusOr<Captured> said = RunAndCapture(child, "", kHost);
  return said.ok() && said->exit_code == 0 ? said->output.substr(0, said->output.find('\n')) : "";
}

// With what only LibTorch and MPI know of themselves.
HostReport WholeReport(const std::string& folder) {
  HostReport report = LookAtThisHost(folder);
  report.mpi = MpiVersion();
  const absl::StatusOr<std::string> probed = AskWorker({"--probe"}, "");
  const Json probe = probed.ok() ? Json::parse(*probed, nullptr, false) : Json();
  if (!probe.is_object()) return report;
  report.torch = probe.value("torch", "");
  report.blas = probe.value("blas", "");
  report.blas_warning = probe.value("warning", "");
  return report;
}

// The report that a host gives of itself.
absl::StatusOr<HostReport> AskHost(const std::string& host, bool here, const Agent& agent, const std::string& folder) {
  if (here) return WholeReport(folder);
  ChildOptions child;
  child.argv = agent.CommandOn(host, here, {OwnProgram(), "doctor", "--here"});
  child.errors_too = true;
  ASSIGN_OR_RETURN(const Captured said, RunAndCapture(child, "", kHost));
  std::string last;
  for (const absl::string_view line : absl::StrSplit(said.output, '\n', absl::SkipEmpty())) {
    if (absl::StartsWith(line, "{")) return ParseHostReport(line);
    last = std::string(line);
  }
  return absl::UnavailableError(last.empty() ? absl::StrCat("ended with exit code ", said.exit_code) : last);
}

absl::StatusOr<RunNeeds> NeedsOf(const Arguments& arguments) {
  RunNeeds needs;
  needs.folder = arguments.out.empty() ? RunsFolder() : arguments.out;
  while (!needs.folder.empty() && !std::filesystem::exists(needs.folder)) {
    needs.folder = std::filesystem::absolute(needs.folder).parent_path();  // where it would be made
  }
  if (arguments.config.empty()) return needs;
  ASSIGN_OR_RETURN(const PreparedRun run, PrepareRun(arguments.config, arguments.set, {arguments.workers}));
  ASSIGN_OR_RETURN(const std::string described, AskWorker({"--describe"}, ConfigToYaml(run.config)));
  const Json model = Json::parse(described, nullptr, false);
  if (!model.is_object() || !model.contains("parameters")) return absl::InternalError("lockstep-worker --describe");
  const auto parameters = static_cast<int64_t>(model["parameters"].get<double>());
  needs.threads = run.config.threads();
  needs.memory_bytes = kInMemory * parameters + run.config.data().global_batch_size() * run.sample_bytes;
  needs.checkpoint_bytes = kInCheckpoint * parameters;
  needs.shared_bytes = kShared * parameters;
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

struct Answers {
  std::vector<ExaminedHost> hosts;
  std::vector<LinkHost> ends;
  std::vector<Check> unreached;
};

Check Unreached(const std::string& host, const Agent& agent, const std::string& why) {
  std::string mend = absl::StrCat(absl::StrJoin(agent.words, " "), " ", host, " true");
  if (absl::StrContains(why, "Permission denied")) mend = absl::StrCat("ssh-copy-id ", host);
  if (absl::StrContains(why, "not found") || absl::StrContains(why, "No such file")) {
    mend = absl::StrCat("put lockstep there as ", OwnProgram());
  }
  return {host, "ssh", false, why, "no worker can be started there", mend};
}

// All hosts at once.
Answers AskHosts(const Cluster& cluster, const Arguments& arguments, const RunNeeds& needs) {
  const std::vector<std::string> names = cluster.Names();
  std::vector<absl::StatusOr<HostReport>> reports(names.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < names.size(); ++i) {
    threads.emplace_back([&, i] { reports[i] = AskHost(names[i], cluster.here[i], cluster.agent, needs.folder); });
  }
  for (std::thread& thread : threads) thread.join();
  Answers answers;
  for (size_t i = 0; i < names.size(); ++i) {
    if (!reports[i].ok()) {
      answers.unreached.push_back(Unreached(names[i], cluster.agent, std::string(reports[i].status().message())));
      continue;
    }
    const int slots = cluster.hosts[i].slots;
    const int share = arguments.workers.has_value()
                          ? (*arguments.workers + static_cast<int>(names.size()) - 1) / static_cast<int>(names.size())
                          : std::max(1, reports[i]->physical / needs.threads);
    answers.hosts.push_back({names[i], *std::move(reports[i]), slots > 0 ? slots : share});
    answers.ends.push_back({names[i], cluster.addresses.empty() ? names[i] : cluster.addresses[i], cluster.here[i]});
  }
  return answers;
}

Json ToJson(const Check& check) {
  return {{"host", check.host}, {"check", check.what},  {"ok", check.ok},
          {"said", check.said}, {"costs", check.costs}, {"mend", check.mend}};
}

void Show(const std::vector<Check>& checks) {
  TextTable table({"", "host", "check", ""}, {true, true, true, true});
  for (const Check& check : checks) {
    table.Add({check.ok ? "ok" : "WRONG", check.host, check.what,
               check.ok ? check.said : absl::StrCat(check.said, ": ", check.costs, "; mend: ", check.mend)});
  }
  std::cout << table.Text("") << std::flush;
}

absl::StatusOr<std::vector<Check>> Diagnose(const Arguments& arguments) {
  ASSIGN_OR_RETURN(const RunNeeds needs, NeedsOf(arguments));
  Cluster cluster = ThisMachine();
  if (!arguments.cluster.empty()) {
    ASSIGN_OR_RETURN(cluster, FindCluster(arguments.cluster));
  }
  Answers answers = AskHosts(cluster, arguments, needs);
  std::vector<LinkFigures> links;
  if (answers.ends.size() > 1) {
    absl::StatusOr<std::vector<LinkFigures>> measured = MeasureLinks(answers.ends, cluster.agent, OwnProgram(), kLinks);
    if (measured.ok()) {
      links = *std::move(measured);
    } else {
      answers.unreached.push_back({"", "link", false, std::string(measured.status().message()),
                                   "nothing is known of the links", "mend that, and ask again"});
    }
  }
  std::vector<Check> checks = std::move(answers.unreached);
  const std::vector<Check> examined = Examine(answers.hosts, needs, cluster.network, links);
  checks.insert(checks.end(), examined.begin(), examined.end());
  return checks;
}

int Doctor(const Arguments& arguments) {
  if (!arguments.link.empty()) return ServeLinks(arguments.link);
  if (arguments.here) {
    std::cout << HostReportText(WholeReport("")) << std::endl;
    return kExitDone;
  }
  const absl::StatusOr<std::vector<Check>> checks = Diagnose(arguments);
  if (!checks.ok()) return Fail(checks.status());
  if (arguments.json) {
    Json list = Json::array();
    for (const Check& check : *checks) list.push_back(ToJson(check));
    std::cout << list.dump(2) << std::endl;
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
  command->add_option("--link", arguments->link)->group("");
  command->footer("Exit code 1: something is wrong.");
  command->callback([=] { *action = [arguments] { return Doctor(*arguments); }; });
}

}  // namespace lockstep
