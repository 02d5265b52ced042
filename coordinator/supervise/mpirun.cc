#include "coordinator/supervise/mpirun.h"

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <initializer_list>
#include <iterator>
#include <set>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "coordinator/supervise/token.h"

namespace lockstep {
namespace {

// Reads "<label><number>" at the beginning of `text` and takes it away.
bool ConsumeNumber(absl::string_view* text, absl::string_view label, int64_t* number) {
  if (!absl::ConsumePrefix(text, label)) return false;
  size_t digits = 0;
  while (digits < text->size() && absl::ascii_isdigit((*text)[digits])) ++digits;
  if (!absl::SimpleAtoi(text->substr(0, digits), number)) return false;
  text->remove_prefix(digits);
  return true;
}

std::optional<WorkerDeath> ParseSignal(absl::string_view text) {
  const size_t at = text.find("process rank ");
  if (at == absl::string_view::npos) return std::nullopt;
  text.remove_prefix(at);
  int64_t rank = 0, pid = 0, signal = 0;
  if (!ConsumeNumber(&text, "process rank ", &rank) || !ConsumeNumber(&text, " with PID ", &pid)) return std::nullopt;
  const size_t exited = text.find(" exited on signal ");
  if (exited == absl::string_view::npos) return std::nullopt;
  text.remove_prefix(exited);
  if (!ConsumeNumber(&text, " exited on signal ", &signal)) return std::nullopt;
  WorkerDeath death;
  death.rank = static_cast<int>(rank);
  death.pid = pid;
  death.signal = static_cast<int>(signal);
  return death;
}

std::optional<WorkerDeath> ParseExitCode(absl::string_view text) {
  const size_t name = text.find("Process name: [[");
  if (name == absl::string_view::npos) return std::nullopt;
  text.remove_prefix(name);
  const size_t rank_at = text.find("],");
  const size_t code_at = text.find("Exit code: ");
  if (rank_at == absl::string_view::npos || code_at == absl::string_view::npos) return std::nullopt;
  int64_t rank = 0, code = 0;
  absl::string_view rank_text = text.substr(rank_at), code_text = text.substr(code_at);
  if (!ConsumeNumber(&rank_text, "],", &rank) || !ConsumeNumber(&code_text, "Exit code: ", &code)) return std::nullopt;
  WorkerDeath death;
  death.rank = static_cast<int>(rank);
  death.exit_code = static_cast<int>(code);
  return death;
}

}  // namespace

namespace {

constexpr const char* kRootVariables[] = {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"};

// What changes how a worker's libraries compute or are found: the same on every host as here. Which devices a host
// shows is its own matter.
constexpr const char* kForAllHosts[] = {"ATEN_",   "CUBLAS_",         "CUDA_",    "CUDNN_",  "GOMP_",
                                        "KMP_",    "LD_LIBRARY_PATH", "MKL_",     "NVIDIA_", "OMP_",
                                        "ONEDNN_", "OPENBLAS_",       "PYTORCH_", "TORCH_",  "UCX_"};
constexpr const char* kNotThese[] = {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"};

// Of this process's environment, by name.
std::vector<std::string> NamesForAllHosts() {
  std::vector<std::string> names;
  for (char** one = environ; *one != nullptr; ++one) {
    const absl::string_view text(*one);
    const absl::string_view name = text.substr(0, text.find('='));
    const auto begins = [&](const char* word) { return absl::StartsWith(name, word); };
    const auto is = [&](const char* word) { return name == word; };
    const bool wanted = std::any_of(std::begin(kForAllHosts), std::end(kForAllHosts), begins);
    if (wanted && std::none_of(std::begin(kNotThese), std::end(kNotThese), is)) names.emplace_back(name);
  }
  return names;
}

void Append(std::initializer_list<std::string> words, std::vector<std::string>* argv) {
  argv->insert(argv->end(), words.begin(), words.end());
}

// Naming pml ob1 spares mpirun's children the search for fast networks: measured 350 → 160 ms from mpirun's start to
// MPI_Finalize with two ranks (`time mpirun -np 2 …` of a program that only initialises).
void AddHere(std::vector<std::string>* argv) {
  Append({"--oversubscribe", "--bind-to", "none", "--mca", "pml", "ob1", "--mca", "btl", "self,vader", "--mca",
          "oob_tcp_if_include", "lo"},
         argv);
  // Within a job of Slurm's, too, this machine is meant.
  Append({"--mca", "ras", "^slurm", "--mca", "plm", "^slurm"}, argv);
}

// Open MPI by itself tries every interface that is up, and hangs on those that lead nowhere; it takes `slots` for a
// limit on processes and binds the first rank of every host to core 0.
void AddHosts(const MpirunOptions& options, std::vector<std::string>* argv) {
  const std::string networks = absl::StrJoin(options.networks, ",");
  Append({"--host", HostsText(options.hosts)}, argv);
  if (options.bind) {
    Append({"--map-by", absl::StrCat("slot:PE=", options.threads), "--bind-to", "core"}, argv);
  } else {
    Append({"--map-by", "slot", "--bind-to", "none"}, argv);
  }
  Append({"--mca", "pml", "ob1", "--mca", "btl", "self,vader,tcp", "--mca", "orte_keep_fqdn_hostnames", "1"}, argv);
  if (!options.agent.empty()) {
    Append({"--mca", "plm", "rsh", "--mca", "plm_rsh_agent", absl::StrJoin(options.agent, " "), "--mca",
            "plm_rsh_no_tree_spawn", "1"},
           argv);
  }
  // Where all hosts are this machine there is no network between them.
  const std::string use = networks.empty() ? "lo" : networks;
  Append({"--mca", "oob_tcp_if_include", use, "--mca", "btl_tcp_if_include", use}, argv);
  // Else five minutes, in which nobody hears that a host has gone before its ranks have joined.
  const auto seconds = absl::ToInt64Seconds(options.silence);
  if (seconds > 0) {
    Append({"--mca", "oob_tcp_keepalive_time", absl::StrCat(seconds), "--mca", "oob_tcp_keepalive_intvl", "1", "--mca",
            "oob_tcp_keepalive_probes", "5"},
           argv);
  }
}

}  // namespace

ChildOptions MpirunCommand(const MpirunOptions& options) {
  ChildOptions child;
  const std::string threads = absl::StrCat(options.threads);
  child.argv = options.prefix;
  Append({"mpirun", "-np", absl::StrCat(options.workers)}, &child.argv);
  options.hosts.empty() ? AddHere(&child.argv) : AddHosts(options, &child.argv);
  const bool crowded = options.hosts.empty() && int64_t{options.workers} * options.threads > options.cores;
  if (options.yield || crowded) {
    Append({"--mca", "mpi_yield_when_idle", "1"}, &child.argv);
  }
  child.environment = options.environment;
  for (const char* name : {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}) {
    child.environment.emplace_back(name, threads);
  }
  if (!options.token.empty()) child.environment.emplace_back(kTokenVariable, options.token);
  if (!options.scratch.empty()) {
    Append({"--mca", "orte_tmpdir_base", options.scratch, "--mca", "btl_vader_backing_directory", options.scratch},
           &child.argv);
    child.environment.emplace_back("TMPDIR", options.scratch);
  }
  std::set<std::string> passed;
  for (const auto& [name, value] : child.environment) passed.insert(name);
  if (!options.hosts.empty()) {
    for (std::string& name : NamesForAllHosts()) passed.insert(std::move(name));
  }
  for (const std::string& name : passed) Append({"-x", name}, &child.argv);
  if (geteuid() == 0) {
    for (const char* name : kRootVariables) child.environment.emplace_back(name, "1");
  }
  child.argv.push_back(options.worker_program);
  child.argv.insert(child.argv.end(), options.arguments.begin(), options.arguments.end());
  child.output = options.output;
  child.parent_death_signal = SIGTERM;
  return child;
}

absl::Status CheckRoot(bool allowed) {
  if (geteuid() != 0 || allowed) return absl::OkStatus();
  const auto is_set = [](const char* name) { return std::getenv(name) != nullptr; };
  if (is_set(kRootVariables[0]) && is_set(kRootVariables[1])) return absl::OkStatus();
  const bool in_container =
      is_set("container") || access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0;
  if (in_container) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "this is root, whose rights the workers would have; start it as another user, or say --allow-root");
}

std::string DescribeWorkerDeath(const WorkerDeath& death) {
  const std::string who = absl::StrCat(death.rank >= 0 ? absl::StrCat("worker ", death.rank) : "a worker",
                                       death.pid > 0 ? absl::StrCat(" (pid ", death.pid, ")") : "");
  if (death.signal.has_value()) return absl::StrCat(who, " ", DescribeExit(*death.signal));
  return absl::StrCat(who, " ", DescribeExit((death.exit_code.value_or(1) & 0xff) << 8));
}

std::string WorkersOwnWords(absl::string_view output) {
  for (absl::string_view line : absl::StrSplit(output, '\n')) {
    if (absl::ConsumePrefix(&line, "lockstep-worker: ")) return std::string(line);
  }
  return "";
}

std::string AgentsOwnWords(absl::string_view output) {
  for (const absl::string_view line : absl::StrSplit(output, '\n')) {
    if (absl::StartsWith(line, "ssh: ")) return std::string(absl::StripAsciiWhitespace(line));
  }
  return "";
}

std::string LostHost(absl::string_view output) {
  const size_t lost = output.find("lost communication with a remote daemon");
  if (lost == absl::string_view::npos) return "";
  output.remove_prefix(lost);
  constexpr absl::string_view kDaemon = "Remote daemon:", kNode = " on node ";
  for (absl::string_view line : absl::StrSplit(output, '\n')) {
    if (!absl::StrContains(line, kDaemon) || !absl::StrContains(line, kNode)) continue;
    return std::string(absl::StripAsciiWhitespace(line.substr(line.find(kNode) + kNode.size())));
  }
  return "";
}

std::optional<WorkerDeath> ParseMpirunOutput(absl::string_view output) {
  std::string text = absl::StrReplaceAll(output, {{"\n", " "}});
  absl::RemoveExtraAsciiWhitespace(&text);
  if (std::optional<WorkerDeath> death = ParseSignal(text)) return death;
  return ParseExitCode(text);
}

}  // namespace lockstep
