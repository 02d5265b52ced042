#include "coordinator/launch/reach.h"

#include <algorithm>
#include <csignal>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/base/file.h"
#include "common/base/host_folder.h"
#include "common/base/status.h"
#include "coordinator/supervise/token.h"

namespace lockstep {
namespace {

constexpr size_t kAtOnce = 32;
constexpr int kSshFailed = 255;
constexpr char kFolder[] = "/dev/shm";

// For a POSIX shell, between single quotes.
std::string Quoted(absl::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

// A run's processes have its folder in their environment; of folders that nobody has after an hour, nobody lives. What
// a shell's start-up files print is told from the answers by their first word. Hosts may be one machine, and share the
// folder.
constexpr char kPrepare[] = R"sh(
umask 077
for old in @FOLDER@/@NAME@*; do
  [ -d "$old" ] && [ -O "$old" ] && [ "$old" != @SCRATCH@ ] && [ -n "$(find "$old" -maxdepth 0 -mmin +60)" ] &&
    ! grep -qsF "$old" /proc/[0-9]*/environ && rm -rf "$old"
done
mkdir -p @SCRATCH@ && [ -O @SCRATCH@ ] && [ ! -L @SCRATCH@ ] && chmod 700 @SCRATCH@ || exit 1
set -C
cat > @SCRATCH@/credentials.$$ <<'LOCKSTEP-END' && mv @SCRATCH@/credentials.$$ @SCRATCH@/credentials || exit 1
@CREDENTIALS@
LOCKSTEP-END
echo "lockstep-host machine $(cat /proc/sys/kernel/random/boot_id)"
echo "lockstep-host cores $(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)"
echo "lockstep-host physical $(sort -u /sys/devices/system/cpu/cpu*/topology/core_cpus_list 2>/dev/null | wc -l)"
quota=max
read -r quota period 2>/dev/null </sys/fs/cgroup/cpu.max ||
  read -r quota 2>/dev/null </sys/fs/cgroup/cpu/cpu.cfs_quota_us && read -r period </sys/fs/cgroup/cpu/cpu.cfs_period_us
[ "${quota:-max}" = max ] || [ "$quota" -lt 1 ] || echo "lockstep-host quota $(((quota + period - 1) / period))"
ip -4 -o addr show up 2>/dev/null | while read -r number name family net rest; do
  echo "lockstep-host address ${net%%/*}"
done
setsid sh -c @WATCH@ @SCRATCH@ </dev/null >/dev/null 2>&1 &
worker=$(command -v @WORKER@) && ln -s "$worker" @SCRATCH@/worker.$$ && mv -f @SCRATCH@/worker.$$ @SCRATCH@/lockstep-worker &&
  echo "lockstep-host worker yes"
echo "lockstep-host ready yes"
)sh";

constexpr char kAsk[] = "until \"$@\"; do [ $? = 255 ] || exit 0; sleep 1; done";

constexpr char kClear[] = R"sh(
for one in $(grep -lsF @SCRATCH@ /proc/[0-9]*/environ); do
  pid=${one#/proc/}; pid=${pid%/environ}
  [ "$pid" = $$ ] || kill -KILL "$pid" 2>/dev/null
done
# Open MPI's daemon has it among its arguments.
for one in $(grep -lsF @SCRATCH@ /proc/[0-9]*/cmdline); do
  pid=${one#/proc/}; pid=${pid%/cmdline}
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != orted ] || kill -KILL "$pid" 2>/dev/null
done
rm -rf @SCRATCH@
)sh";

std::string WorkerOf(const std::string& host, const HostNeeds& needs) {
  const auto own = needs.worker_of.find(host);
  return own == needs.worker_of.end() ? needs.worker_program : own->second;
}

std::string PrepareScript(const std::string& host, const HostNeeds& needs) {
  return absl::StrReplaceAll(kPrepare, {{"@FOLDER@", kFolder},
                                        {"@NAME@", kHostFolderName},
                                        {"@SCRATCH@", Quoted(needs.scratch)},
                                        {"@CREDENTIALS@", needs.credentials},
                                        {"@WATCH@", Quoted(HostFolderWatch())},
                                        {"@WORKER@", Quoted(WorkerOf(host, needs))}});
}

std::string ClearScript(const std::string& scratch) {
  return absl::StrReplaceAll(kClear, {{"@SCRATCH@", Quoted(scratch)}});
}

absl::StatusOr<Captured> RunScript(const std::string& host, bool here, const Agent& agent, const std::string& script,
                                   absl::Duration timeout) {
  ChildOptions child;
  child.argv = agent.CommandOn(host, here, {"sh", "-s"});
  child.errors_too = true;
  return RunAndCapture(child, script, timeout);
}

std::string LastLine(absl::string_view text) {
  const std::vector<absl::string_view> lines = absl::StrSplit(absl::StripAsciiWhitespace(text), '\n');
  return std::string(absl::StripAsciiWhitespace(lines.back()));
}

absl::StatusOr<HostFacts> Prepare(const std::string& host, bool here, const Agent& agent, const HostNeeds& needs,
                                  absl::Duration timeout) {
  const absl::StatusOr<Captured> ran = RunScript(host, here, agent, PrepareScript(host, needs), timeout);
  const std::string try_it = absl::StrCat("; try: ", absl::StrJoin(agent.words, " "), " ", host, " true");
  if (absl::IsDeadlineExceeded(ran.status())) {
    return absl::FailedPreconditionError(
        absl::StrCat("host ", host, " gave no answer within ", absl::FormatDuration(timeout), try_it));
  }
  if (!ran.ok()) return absl::FailedPreconditionError(absl::StrCat("host ", host, ": ", ran.status().message()));
  std::map<std::string, std::string> said;
  HostFacts facts;
  for (const absl::string_view line : absl::StrSplit(ran->output, '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() != 3 || words[0] != "lockstep-host") continue;
    said[words[1]] = words[2];
    if (words[1] == "address") facts.addresses.push_back(words[2]);
  }
  if (said.count("ready") == 0) {
    const std::string last = LastLine(ran->output);
    const bool unreached = !here && ran->exit_code == kSshFailed;
    return absl::FailedPreconditionError(absl::StrCat(
        "host ", host, unreached ? " cannot be reached without a prompt: " : " cannot be made ready: ",
        last.empty() ? absl::StrCat(agent.words[0], " ended with exit code ", ran->exit_code) : last, try_it));
  }
  if (said.count("worker") == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("host ", host, ": ", WorkerOf(host, needs),
                     " is not there; put lockstep-worker there, or say in a --hostfile "
                     "where it is: ",
                     host, " worker=PATH"));
  }
  facts.host = host;
  facts.machine = said["machine"];
  if (!absl::SimpleAtoi(said["cores"], &facts.cores)) facts.cores = 1;
  if (!absl::SimpleAtoi(said["physical"], &facts.physical)) facts.physical = 0;
  if (!absl::SimpleAtoi(said["quota"], &facts.quota)) facts.quota = 0;
  return facts;
}

// `does` for each host's place, some of them at once.
template <typename Does>
void ForEachHost(size_t hosts, Does does) {
  for (size_t begin = 0; begin < hosts; begin += kAtOnce) {
    std::vector<std::thread> threads;
    for (size_t i = begin; i < std::min(hosts, begin + kAtOnce); ++i) threads.emplace_back([=] { does(i); });
    for (std::thread& thread : threads) thread.join();
  }
}

}  // namespace

std::vector<std::string> Agent::CommandOn(const std::string& host, bool here,
                                          const std::vector<std::string>& command) const {
  if (here) return command;
  std::vector<std::string> all = words;
  all.push_back(host);
  all.insert(all.end(), command.begin(), command.end());
  return all;
}

absl::StatusOr<std::vector<HostFacts>> PrepareHosts(const std::vector<std::string>& hosts,
                                                    const std::vector<bool>& here, const Agent& agent,
                                                    const HostNeeds& needs, absl::Duration timeout) {
  std::vector<absl::StatusOr<HostFacts>> answers(hosts.size(), absl::UnknownError(""));
  ForEachHost(hosts.size(), [&](size_t i) { answers[i] = Prepare(hosts[i], here[i], agent, needs, timeout); });
  std::vector<HostFacts> facts;
  for (absl::StatusOr<HostFacts>& answer : answers) {
    if (!answer.ok()) {
      ClearHosts(hosts, here, agent, needs.scratch, timeout);
      return answer.status();
    }
    facts.push_back(*std::move(answer));
  }
  return facts;
}

void ClearHosts(const std::vector<std::string>& hosts, const std::vector<bool>& here, const Agent& agent,
                const std::string& scratch, absl::Duration timeout) {
  ForEachHost(hosts.size(),
              [&](size_t i) { RunScript(hosts[i], here[i], agent, ClearScript(scratch), timeout).IgnoreError(); });
}

ChildOptions HostQuestion(const std::string& host, const Agent& agent) {
  ChildOptions child;
  child.argv = {"sh", "-c", kAsk, "sh"};
  const std::vector<std::string> words = agent.CommandOn(host, false, {agent.is_there});
  child.argv.insert(child.argv.end(), words.begin(), words.end());
  child.output = "/dev/null";
  child.parent_death_signal = SIGKILL;
  return child;
}

std::string HostWorkerPath(const std::string& scratch) { return JoinPath(scratch, "lockstep-worker"); }

std::string HostCredentialsPath(const std::string& scratch) { return JoinPath(scratch, "credentials"); }

absl::StatusOr<std::string> HostScratchPath() {
  ASSIGN_OR_RETURN(const std::string random, MakeToken());
  return absl::StrCat(kFolder, "/", kHostFolderName, random.substr(0, 16));
}

}  // namespace lockstep
