#include "coordinator/launch/slurm.h"

#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "coordinator/supervise/process.h"

namespace lockstep {
namespace {

constexpr int kMostHosts = 100000;
constexpr absl::Duration kDeadline = absl::Seconds(20);  // a busy controller takes its time

absl::StatusOr<std::string> Expand(const std::string& list) {
  ChildOptions child;
  child.argv = {"scontrol", "show", "hostnames", list};
  ASSIGN_OR_RETURN(const Captured captured, RunAndCapture(child, "", kDeadline));
  if (captured.exit_code == 0) return captured.output;
  return absl::UnavailableError(
      absl::StrCat("scontrol show hostnames ", list, " ended with exit code ", captured.exit_code));
}

// A variable's mebibytes, in bytes.
int64_t Mebibytes(const std::string& text) {
  int64_t number = 0;
  return absl::SimpleAtoi(text, &number) && number > 0 ? number << 20 : 0;
}

}  // namespace

absl::StatusOr<std::vector<int>> ParseCounts(absl::string_view text) {
  std::vector<int> counts;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const size_t bracket = part.find("(x");
    absl::string_view times = bracket == absl::string_view::npos ? "1)" : part.substr(bracket + 2);
    int count = 0, hosts = 0;
    const bool right = absl::ConsumeSuffix(&times, ")") && absl::SimpleAtoi(times, &hosts) &&
                       absl::SimpleAtoi(part.substr(0, bracket), &count) && count > 0 && hosts > 0;
    if (!right || counts.size() + hosts > kMostHosts) {
      return absl::InvalidArgumentError(absl::StrCat("'", text, "' are no numbers by host as Slurm writes them"));
    }
    counts.insert(counts.end(), hosts, count);
  }
  return counts;
}

absl::StatusOr<std::vector<SlurmHost>> SlurmHosts(
    const std::function<std::string(const char*)>& variable,
    const std::function<absl::StatusOr<std::string>(const std::string&)>& expand) {
  const std::string list = variable("SLURM_JOB_NODELIST");
  if (list.empty()) {
    return absl::FailedPreconditionError(
        "--slurm: this is no job of Slurm's (SLURM_JOB_NODELIST is not set); start it by sbatch or salloc");
  }
  ASSIGN_OR_RETURN(const std::string names, expand(list));
  ASSIGN_OR_RETURN(const std::vector<int> tasks, ParseCounts(variable("SLURM_TASKS_PER_NODE")));
  ASSIGN_OR_RETURN(const std::vector<int> cores, ParseCounts(variable("SLURM_JOB_CPUS_PER_NODE")));
  const int64_t of_host = Mebibytes(variable("SLURM_MEM_PER_NODE"));
  const int64_t of_core = Mebibytes(variable("SLURM_MEM_PER_CPU"));
  std::vector<SlurmHost> hosts;
  for (const absl::string_view name : absl::StrSplit(names, '\n', absl::SkipEmpty())) {
    const size_t place = hosts.size();
    if (place >= tasks.size() || place >= cores.size()) break;
    const int64_t memory = of_host > 0 ? of_host : of_core * cores[place];
    hosts.push_back({{std::string(absl::StripAsciiWhitespace(name)), tasks[place]}, cores[place], memory});
  }
  if (!hosts.empty() && hosts.size() == tasks.size() && hosts.size() == cores.size()) return hosts;
  return absl::FailedPreconditionError(absl::StrCat("--slurm: SLURM_JOB_NODELIST names ", hosts.size(),
                                                    " hosts, SLURM_TASKS_PER_NODE ", tasks.size(),
                                                    ", SLURM_JOB_CPUS_PER_NODE ", cores.size()));
}

bool InSlurm() { return std::getenv("SLURM_JOB_NODELIST") != nullptr; }

absl::StatusOr<std::vector<SlurmHost>> SlurmHostsHere() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  return SlurmHosts(variable, Expand);
}

}  // namespace lockstep
