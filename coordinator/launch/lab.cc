#include "coordinator/launch/lab.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/supervise/process.h"

namespace lockstep {
namespace {

constexpr char kPrefix[] = "lockstep-";
constexpr char kNetwork[] = "10.77.0";
constexpr char kSwitchLink[] = "switch";
constexpr int kSwitch = 0;
// Not what this machine happens to use among the internet's hosts: bbr gets half of a shaped link that is busy both
// ways.
constexpr char kCongestionControl[] = "cubic";
// In the environment of all that is started on a host, which may go to another network namespace.
constexpr char kLabVariable[] = "LOCKSTEP_LAB";
constexpr char kSpaces[] = "/run/netns";
constexpr char kStates[] = "/run/lockstep-labs";
constexpr char kComplete[] = "complete";
constexpr double kMostGbit = 1000, kMostDelay = 60;      // more is a slip of the finger
constexpr absl::Duration kDeadline = absl::Seconds(10);  // for what takes milliseconds

// Runs a program to its end. FailedPrecondition: it is not installed; Internal: it failed, with what it said.
absl::StatusOr<std::string> RunTool(const std::vector<std::string>& words, const std::string& input = "") {
  ChildOptions child;
  child.argv = words;
  child.errors_too = true;
  ASSIGN_OR_RETURN(Captured captured, RunAndCapture(child, input, kDeadline));
  if (captured.exit_code == 0) return std::move(captured.output);
  absl::RemoveExtraAsciiWhitespace(&captured.output);
  return absl::InternalError(absl::StrCat(absl::StrJoin(words, " "), ": ", captured.output));
}

absl::StatusOr<std::string> Ip(const std::vector<std::string>& words) {
  std::vector<std::string> all = {"ip"};
  all.insert(all.end(), words.begin(), words.end());
  return RunTool(all);
}

// Commands of ip in a namespace, one a line.
absl::Status IpIn(const std::string& space, const std::vector<std::string>& lines) {
  return RunTool({"ip", "-n", space, "-batch", "-"}, absl::StrJoin(lines, "\n") + "\n").status();
}

absl::Status CheckTools() {
  if (geteuid() != 0) {
    return absl::FailedPreconditionError("a lab is made of network namespaces, which need root; run it with sudo");
  }
  constexpr std::pair<const char*, const char*> kTools[] = {
      {"ip", "iproute2"}, {"tc", "iproute2"}, {"nsenter", "util-linux"}, {"unshare", "util-linux"}};
  for (const auto& [tool, package] : kTools) {
    if (!RunTool({"sh", "-c", absl::StrCat("command -v ", tool)}).ok()) {
      return absl::FailedPreconditionError(absl::StrCat("a lab needs ", tool, "; install Debian's ", package));
    }
  }
  if (!RunTool({"unshare", "-n", "true"}).ok()) {
    return absl::FailedPreconditionError(
        "this machine gives no network namespaces; a container needs --privileged for a lab");
  }
  return absl::OkStatus();
}

// One of `units` at least, the last of them the largest, of which there are `most` at most.
bool IsQuantity(absl::string_view text, std::initializer_list<const char*> units, double most) {
  size_t digits = 0;
  while (digits < text.size() && (absl::ascii_isdigit(text[digits]) || text[digits] == '.')) ++digits;
  double number = 0;
  if (!absl::SimpleAtod(text.substr(0, digits), &number) || number <= 0) return false;
  const std::string unit = absl::AsciiStrToLower(text.substr(digits));
  const auto at = std::find(units.begin(), units.end(), unit);
  if (at == units.end()) return false;
  const bool is_one = number * std::pow(1e3, std::distance(units.begin(), at)) >= 1;
  return is_one && number * std::pow(1e-3, std::distance(at, units.end()) - 1) <= most;
}

absl::Status CheckLink(const Lab::Link& link) {
  const auto given = [](const std::string& text) { return !text.empty() && text != "none"; };
  if (given(link.rate) && !IsQuantity(link.rate, {"kbit", "mbit", "gbit"}, kMostGbit)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", link.rate, "' is no rate; write it as 1gbit, 200mbit, 64kbit, or none; 1kbit to ", kMostGbit, "gbit"));
  }
  if (given(link.delay) && !IsQuantity(link.delay, {"us", "ms", "s"}, kMostDelay)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", link.delay, "' is no delay; write it as 5ms, 200us, or none; 1us to ", kMostDelay, "s"));
  }
  return absl::OkStatus();
}

// What stands after `word` in tc's description of a link.
std::string WordAfter(absl::string_view word, absl::string_view text) {
  const std::vector<absl::string_view> words = absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  const auto at = std::find(words.begin(), words.end(), word);
  return at == words.end() || at + 1 == words.end() ? "" : std::string(*(at + 1));
}

absl::Status ExplainNetem(const absl::Status& status) {
  const bool missing = absl::StrContains(status.message(), "No such file") ||
                       absl::StrContains(status.message(), "qdisc kind is unknown");
  if (!missing) return status;
  return absl::FailedPreconditionError(
      "this machine's kernel has no netem (module sch_netem), so links cannot be given a delay; rates can be set");
}

absl::StatusOr<std::string> ShapeOf(const std::string& space, const std::string& device) {
  return RunTool({"tc", "-n", space, "qdisc", "show", "dev", device});
}

// One direction of a link.
absl::Status ShapeDevice(const std::string& space, const std::string& device, Lab::Link link) {
  ASSIGN_OR_RETURN(const std::string is, ShapeOf(space, device));
  if (link.rate.empty()) link.rate = WordAfter("rate", is);
  if (link.delay.empty()) link.delay = WordAfter("delay", is);
  const bool rate = !link.rate.empty() && link.rate != "none", delay = !link.delay.empty() && link.delay != "none";
  const bool was = absl::StrContains(is, "qdisc tbf") || absl::StrContains(is, "qdisc netem");
  const auto change = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"tc", "-n", space, "qdisc"});
    return RunTool(words).status();
  };
  const bool only_rate = rate && !delay && !absl::StrContains(is, "qdisc netem");
  // A rate alone is changed in place, under traffic; else from the beginning.
  if (was && !only_rate) RETURN_IF_ERROR(change({"del", "dev", device, "root"}));
  if (rate) {
    RETURN_IF_ERROR(change({"replace", "dev", device, "root", "handle", "1:", "tbf", "rate", link.rate, "burst",
                            "256kb", "latency", "50ms"}));
  }
  if (!delay) return absl::OkStatus();
  // Long enough for all that a fast link holds on its way.
  const std::vector<std::string> netem = {"netem", "delay", link.delay, "limit", "100000"};
  std::vector<std::string> words = {"add", "dev", device};
  const std::vector<std::string> place = rate ? std::vector<std::string>{"parent", "1:1", "handle", "10:"}
                                              : std::vector<std::string>{"root", "handle", "10:"};
  words.insert(words.end(), place.begin(), place.end());
  words.insert(words.end(), netem.begin(), netem.end());
  return ExplainNetem(change(words));
}

// Of a namespace; those that have ended and wait for their parents left out.
absl::StatusOr<std::set<pid_t>> ProcessesIn(const std::string& space) {
  ASSIGN_OR_RETURN(const std::string text, Ip({"netns", "pids", space}));
  std::set<pid_t> found;
  for (const absl::string_view word : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(word, &pid) || pid == getpid()) continue;
    const absl::StatusOr<std::string> stat = FileSystem::Real()->Read(absl::StrCat("/proc/", pid, "/stat"));
    if (!stat.ok()) continue;
    const absl::string_view state = absl::string_view(*stat).substr(stat->rfind(')') + 1);
    if (!absl::StartsWith(state, " Z") && !absl::StartsWith(state, " X")) found.insert(pid);
  }
  return found;
}

// Held by whoever makes a lab or takes it away. A lab whose file is there, does not say that it is complete, and is not
// locked was given up half way.
class StateFile {
 public:
  // Unavailable: another process holds it, and has for so long.
  static absl::StatusOr<StateFile> Lock(const std::string& name, absl::Duration patience) {
    const absl::Time until = absl::Now() + patience;
    RETURN_IF_ERROR(FileSystem::Real()->MakeFolders(kStates, 0755));
    const std::string path = JoinPath(kStates, name);
    for (;;) {
      UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
      if (fd.get() < 0) return ErrnoStatus(errno, path);
      if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        if (absl::Now() < until) {
          absl::SleepFor(absl::Milliseconds(20));
          continue;
        }
        return absl::UnavailableError(absl::StrCat("lab '", name, "' is being made or taken down just now; try again"));
      }
      struct stat mine {
      }, there{};
      // Between the two calls the file may have been removed by its last holder.
      if (fstat(fd.get(), &mine) == 0 && stat(path.c_str(), &there) == 0 && mine.st_ino == there.st_ino) {
        return StateFile(path, std::move(fd));
      }
    }
  }

  absl::Status Say(absl::string_view state) {
    if (ftruncate(fd_.get(), 0) == 0 && pwrite(fd_.get(), state.data(), state.size(), 0) == ssize_t(state.size())) {
      return absl::OkStatus();
    }
    return ErrnoStatus(errno, path_);
  }
  void Remove() { unlink(path_.c_str()); }

 private:
  StateFile(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  UniqueFd fd_;
};

bool IsComplete(const std::string& name) {
  const absl::StatusOr<std::string> state = FileSystem::Real()->Read(JoinPath(kStates, name), 1 << 10);
  return state.ok() && *state == kComplete;
}

// Names to hosts, the switch with them, of all namespaces that look like a lab's.
absl::StatusOr<std::map<std::string, std::set<int>>> FindSpaces() {
  std::map<std::string, std::set<int>> found;
  const absl::StatusOr<std::vector<std::string>> names = FileSystem::Real()->List(kSpaces);
  if (absl::IsNotFound(names.status())) return found;
  RETURN_IF_ERROR(names.status());
  for (absl::string_view name : *names) {
    const size_t dash = name.rfind('-');
    int host = 0;
    if (!absl::StartsWith(name, kPrefix) || dash < sizeof(kPrefix) || !absl::SimpleAtoi(name.substr(dash + 1), &host)) {
      continue;
    }
    found[std::string(name.substr(sizeof(kPrefix) - 1, dash - sizeof(kPrefix) + 1))].insert(host);
  }
  return found;
}

std::string PortOf(int host) { return absl::StrCat("p", host); }

}  // namespace

absl::StatusOr<Lab> Lab::Named(const std::string& name) {
  const auto belongs = [](char c) { return absl::ascii_isalnum(c) || c == '_' || c == '.'; };
  if (name.empty() || name.size() > 40 || name[0] == '.' || !std::all_of(name.begin(), name.end(), belongs)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", name, "' is no name for a lab; up to 40 letters, digits, '_' and '.'"));
  }
  return Lab(name);
}

std::string Lab::SpaceOf(int host) const { return absl::StrCat(kPrefix, name_, "-", host); }
std::string Lab::AddressOf(int host) { return absl::StrCat(kNetwork, ".", host); }
std::string Lab::NameOf(int host) { return absl::StrCat("host", host); }

int Lab::HostOf(const std::string& address) {
  absl::string_view rest = address;
  int host = 0;
  const bool is = absl::ConsumePrefix(&rest, absl::StrCat(kNetwork, ".")) || absl::ConsumePrefix(&rest, "host");
  return is && absl::SimpleAtoi(rest, &host) && host > 0 && host <= kMostHosts ? host : 0;
}

absl::StatusOr<std::vector<std::string>> Lab::All() {
  ASSIGN_OR_RETURN(const auto spaces, FindSpaces());
  std::vector<std::string> names;
  for (const auto& [name, hosts] : spaces) {
    if (IsComplete(name)) names.push_back(name);
  }
  return names;
}

absl::StatusOr<std::vector<int>> Lab::Hosts() const {
  ASSIGN_OR_RETURN(const auto spaces, FindSpaces());
  const auto own = spaces.find(name_);
  if (own == spaces.end()) return std::vector<int>();
  std::vector<int> hosts;
  for (const int host : own->second) {
    if (host != kSwitch) hosts.push_back(host);
  }
  return hosts;
}

// In one word: Open MPI 4.1 loses a last one of a single letter.
std::vector<std::string> Lab::AgentWords() const {
  return {OwnProgram(), "lab", "rsh", absl::StrCat("--name=", name_)};
}

ClusterNetwork Lab::Network() {
  ClusterNetwork network;
  network.networks = {absl::StrCat(kNetwork, ".0/24")};
  network.listen = AddressOf(1);
  network.remote = true;
  return network;
}

namespace {

absl::Status KillProcesses(const std::vector<std::string>& spaces, const std::string& name) {
  const absl::Time until = absl::Now() + kDeadline;
  for (;;) {
    std::set<pid_t> all;
    for (const std::string& space : spaces) {
      ASSIGN_OR_RETURN(const std::set<pid_t> some, ProcessesIn(space));
      all.insert(some.begin(), some.end());
    }
    for (const pid_t pid : ProcessesWithVariable(kLabVariable, name)) all.insert(pid);
    if (all.empty()) return absl::OkStatus();
    if (absl::Now() > until) {
      return absl::DeadlineExceededError(
          absl::StrCat("lab '", name, "': processes ", absl::StrJoin(all, ", "), " do not end"));
    }
    for (const pid_t pid : all) kill(pid, SIGKILL);
    absl::SleepFor(absl::Milliseconds(10));
  }
}

absl::Status TakeAway(const std::string& name) {
  ASSIGN_OR_RETURN(const auto spaces, FindSpaces());
  const auto own = spaces.find(name);
  if (own == spaces.end()) return absl::OkStatus();
  std::vector<std::string> names;
  for (const int host : own->second) names.push_back(absl::StrCat(kPrefix, name, "-", host));
  RETURN_IF_ERROR(KillProcesses(names, name));
  for (const std::string& space : names) RETURN_IF_ERROR(Ip({"netns", "del", space}).status());
  return absl::OkStatus();
}

// Whoever holds `state` takes the lab away with it.
absl::Status TakeAwayWith(StateFile* state, const std::string& name) {
  RETURN_IF_ERROR(state->Say("unfinished"));
  RETURN_IF_ERROR(TakeAway(name));
  state->Remove();
  return absl::OkStatus();
}

// Labs that were given up half way, but this one.
absl::Status SweepBut(const std::string& name) {
  const absl::StatusOr<std::vector<std::string>> files = FileSystem::Real()->List(kStates);
  if (absl::IsNotFound(files.status())) return absl::OkStatus();
  RETURN_IF_ERROR(files.status());
  for (const std::string& other : *files) {
    if (other == name || IsComplete(other)) continue;
    absl::StatusOr<StateFile> state = StateFile::Lock(other, absl::ZeroDuration());
    if (absl::IsUnavailable(state.status())) continue;  // somebody is at work on it
    RETURN_IF_ERROR(state.status());
    if (!IsComplete(other)) RETURN_IF_ERROR(TakeAwayWith(&*state, other));  // it may have been made since
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Lab::Up(const Plan& plan) const {
  if (plan.hosts < 1 || plan.hosts > kMostHosts) {
    return absl::InvalidArgumentError(absl::StrCat("a lab has 1 to ", kMostHosts, " hosts, not ", plan.hosts));
  }
  RETURN_IF_ERROR(CheckLink(plan.link));
  for (const auto& [host, link] : plan.of_hosts) {
    if (host < 1 || host > plan.hosts) {
      return absl::InvalidArgumentError(
          absl::StrCat("host ", host, ": the lab has hosts 1 to ", plan.hosts, "; give one of them"));
    }
    RETURN_IF_ERROR(CheckLink(link));
  }
  RETURN_IF_ERROR(CheckTools());
  RETURN_IF_ERROR(SweepBut(name_));
  ASSIGN_OR_RETURN(StateFile state, StateFile::Lock(name_, kDeadline));
  ASSIGN_OR_RETURN(const std::vector<int> there, Hosts());
  if (!there.empty() && IsComplete(name_)) {
    return absl::AlreadyExistsError(absl::StrCat(
        "there is a lab '", name_, "' already; take it down (lockstep lab down) or give this one another --name"));
  }
  RETURN_IF_ERROR(state.Say("unfinished"));
  RETURN_IF_ERROR(TakeAway(name_));
  absl::Status built = Build(plan);
  if (built.ok()) built = state.Say(kComplete);
  if (!built.ok() && TakeAway(name_).ok()) state.Remove();
  return built;
}

absl::Status Lab::Build(const Plan& plan) const {
  RETURN_IF_ERROR(Ip({"netns", "add", SpaceOf(kSwitch)}).status());
  RETURN_IF_ERROR(IpIn(SpaceOf(kSwitch), {absl::StrCat("link add ", kSwitchLink, " type bridge"),
                                          absl::StrCat("link set ", kSwitchLink, " up")}));
  for (int host = 1; host <= plan.hosts; ++host) {
    RETURN_IF_ERROR(AddHost(host));
    const auto own = plan.of_hosts.find(host);
    Link link = plan.link;
    if (own != plan.of_hosts.end() && !own->second.rate.empty()) link.rate = own->second.rate;
    if (own != plan.of_hosts.end() && !own->second.delay.empty()) link.delay = own->second.delay;
    RETURN_IF_ERROR(ShapeOne(host, link));
  }
  return absl::OkStatus();
}

absl::Status Lab::AddHost(int host) const {
  const std::string space = SpaceOf(host), port = PortOf(host), address = AddressOf(host);
  RETURN_IF_ERROR(Ip({"netns", "add", space}).status());
  RETURN_IF_ERROR(IpIn(SpaceOf(kSwitch), {absl::StrCat("link add ", port, " type veth peer name e0 netns ", space),
                                          absl::StrCat("link set ", port, " master ", kSwitchLink, " up")}));
  return IpIn(space, {absl::StrCat("addr add ", address, "/24 dev e0"), "link set e0 up", "link set lo up",
                      absl::StrCat("route replace ", kNetwork, ".0/24 dev e0 scope link src ", address, " congctl ",
                                   kCongestionControl)});
}

absl::Status Lab::Down() const {
  RETURN_IF_ERROR(CheckTools());
  RETURN_IF_ERROR(SweepBut(name_));
  ASSIGN_OR_RETURN(StateFile state, StateFile::Lock(name_, kDeadline));
  return TakeAwayWith(&state, name_);
}

absl::Status Lab::CheckHost(int host) const {
  ASSIGN_OR_RETURN(const std::vector<int> hosts, Hosts());
  if (hosts.empty()) {
    return absl::NotFoundError(absl::StrCat("there is no lab '", name_, "'; make one with lockstep lab up"));
  }
  if (host != 0 && std::find(hosts.begin(), hosts.end(), host) == hosts.end()) {
    return absl::NotFoundError(
        absl::StrCat("lab '", name_, "' has no host ", host, "; it has ", hosts.front(), " to ", hosts.back()));
  }
  return absl::OkStatus();
}

absl::Status Lab::ShapeOne(int host, const Link& link) const {
  RETURN_IF_ERROR(ShapeDevice(SpaceOf(host), "e0", link));
  return ShapeDevice(SpaceOf(kSwitch), PortOf(host), link);
}

absl::Status Lab::Shape(int host, const Link& link) const {
  RETURN_IF_ERROR(CheckLink(link));
  RETURN_IF_ERROR(CheckTools());
  RETURN_IF_ERROR(CheckHost(host));
  if (host != 0) return ShapeOne(host, link);
  ASSIGN_OR_RETURN(const std::vector<int> hosts, Hosts());
  for (const int one : hosts) RETURN_IF_ERROR(ShapeOne(one, link));
  return absl::OkStatus();
}

absl::StatusOr<Lab::Link> Lab::LinkOf(int host) const {
  RETURN_IF_ERROR(CheckTools());
  ASSIGN_OR_RETURN(const std::string is, ShapeOf(SpaceOf(host), "e0"));
  return Link{WordAfter("rate", is), WordAfter("delay", is)};
}

absl::Status Lab::Cut(int host) const {
  RETURN_IF_ERROR(CheckTools());
  RETURN_IF_ERROR(CheckHost(host));
  return IpIn(SpaceOf(kSwitch), {absl::StrCat("link set ", PortOf(host), " down")});
}

absl::Status Lab::Mend(int host) const {
  RETURN_IF_ERROR(CheckTools());
  RETURN_IF_ERROR(CheckHost(host));
  return IpIn(SpaceOf(kSwitch), {absl::StrCat("link set ", PortOf(host), " up")});
}

absl::StatusOr<bool> Lab::IsCut(int host) const {
  RETURN_IF_ERROR(CheckHost(host));
  ASSIGN_OR_RETURN(const std::string link, Ip({"-n", SpaceOf(kSwitch), "link", "show", PortOf(host)}));
  return !absl::StrContains(link, ",UP");
}

std::vector<std::string> Lab::CommandOn(int host, const std::vector<std::string>& words) const {
  std::vector<std::string> all = {"nsenter",
                                  absl::StrCat("--net=", kSpaces, "/", SpaceOf(host)),
                                  "unshare",
                                  "--uts",
                                  "sh",
                                  "-c",
                                  absl::StrCat("hostname \"$0\" && ", kLabVariable, "=", name_, " exec \"$@\""),
                                  NameOf(host)};
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

}  // namespace lockstep
