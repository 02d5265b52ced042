#include "coordinator/launch/cluster.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/launch/lab.h"
#include "coordinator/launch/slurm.h"
#include "coordinator/supervise/process.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxHostfile = 16 << 20;
constexpr absl::Duration kConfigured = absl::Seconds(5);  // for ssh to say what a name stands for

// The agent is for getting hosts ready alone.
absl::Status FindSlurm(Cluster* cluster) {
  ASSIGN_OR_RETURN(const std::vector<SlurmHost> hosts, SlurmHostsHere());
  for (const SlurmHost& one : hosts) {
    cluster->hosts.push_back(one.slots);
    cluster->cores.push_back(one.cores);
    cluster->memory.push_back(one.memory);
  }
  cluster->slurm = true;
  cluster->agent.words = {"srun", "--overlap", "--nodes=1", "--ntasks=1", "--quiet", "-w"};
  return absl::OkStatus();
}

absl::StatusOr<std::vector<HostSlots>> NamedHosts(const std::string& hosts) {
  if (hosts.empty()) return std::vector<HostSlots>();
  absl::StatusOr<std::vector<HostSlots>> named = ParseHosts(hosts);
  if (!named.ok()) return absl::InvalidArgumentError(absl::StrCat("--hosts: ", named.status().message()));
  return named;
}

// Leaves the `named` of the cluster's hosts, in that order and with other slots where they are said; none named: all.
// `where`: what names the cluster's.
absl::Status Choose(const std::vector<HostSlots>& named, const std::string& where, Cluster* cluster) {
  if (named.empty()) return absl::OkStatus();
  const Cluster all = *cluster;
  cluster->hosts.clear();
  cluster->cores.clear();
  cluster->memory.clear();
  for (HostSlots one : named) {
    const auto found =
        std::find_if(all.hosts.begin(), all.hosts.end(), [&](const HostSlots& host) { return host.host == one.host; });
    if (found == all.hosts.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--hosts: ", one.host, " is not in ", where, "; name hosts that are, or leave one out"));
    }
    const auto place = static_cast<size_t>(found - all.hosts.begin());
    one.worker = found->worker;
    if (one.slots == 0) one.slots = found->slots;
    cluster->hosts.push_back(std::move(one));
    if (!all.cores.empty()) cluster->cores.push_back(all.cores[place]);
    if (!all.memory.empty()) cluster->memory.push_back(all.memory[place]);
  }
  return absl::OkStatus();
}

absl::Status FindListed(const ClusterRequest& request, const std::vector<HostSlots>& named, Cluster* cluster) {
  if (request.hostfile.empty()) {
    cluster->hosts = named;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::string text, FileSystem::Real()->Read(request.hostfile, kMaxHostfile));
  ASSIGN_OR_RETURN(cluster->hosts, ParseHostfile(request.hostfile, text));
  return Choose(named, request.hostfile, cluster);
}

absl::StatusOr<Cluster> FindLab(const std::string& name, const std::vector<HostSlots>& named) {
  ASSIGN_OR_RETURN(const Lab lab, Lab::Named(name));
  RETURN_IF_ERROR(lab.CheckHost(0));
  ASSIGN_OR_RETURN(const std::vector<int> numbers, lab.Hosts());
  Cluster cluster;
  for (const int number : numbers) cluster.hosts.push_back({Lab::AddressOf(number), 0});
  RETURN_IF_ERROR(Choose(named, absl::StrCat("the lab '", name, "'"), &cluster));
  cluster.here.assign(cluster.hosts.size(), false);
  cluster.addresses = cluster.Names();
  cluster.network = Lab::Network();
  cluster.agent.words = lab.AgentWords();
  cluster.agent.is_there = Lab::kIsThere;
  if (absl::StrContains(cluster.agent.words[0], ' ')) {
    return absl::FailedPreconditionError(
        absl::StrCat("--lab: ", cluster.agent.words[0],
                     " lies under a path with a space, where Open MPI would find two words: put it elsewhere"));
  }
  cluster.prefix = lab.CommandOn(numbers.front(), {});
  return cluster;
}

// By a name that only ssh's configuration has (Host, HostName) a host can be reached as well.
absl::StatusOr<Route> RouteByAgent(const std::string& host, const Agent& agent,
                                   const std::vector<LocalAddress>& local) {
  const absl::StatusOr<Route> route = RouteTo(host, local);
  if (!absl::IsNotFound(route.status()) || std::filesystem::path(agent.words[0]).filename() != "ssh") return route;
  ChildOptions child;
  child.argv = agent.words;
  child.argv.insert(child.argv.end(), {"-G", host});
  const absl::StatusOr<Captured> said = RunAndCapture(child, "", kConfigured);
  if (!said.ok()) return route;
  for (absl::string_view line : absl::StrSplit(said->output, '\n')) {
    if (!absl::ConsumePrefix(&line, "hostname ") || line == host) continue;
    return RouteTo(std::string(line), local);
  }
  return route;
}

// The hosts in these places.
void LeaveOut(const std::vector<size_t>& places, Cluster* cluster) {
  const auto from = [&](auto* values) {
    if (values->empty()) return;
    for (auto place = places.rbegin(); place != places.rend(); ++place) {
      values->erase(values->begin() + static_cast<std::ptrdiff_t>(*place));
    }
  };
  from(&cluster->hosts);
  from(&cluster->cores);
  from(&cluster->memory);
}

}  // namespace

std::vector<std::string> Cluster::Names() const {
  std::vector<std::string> names;
  for (const HostSlots& one : hosts) names.push_back(one.host);
  return names;
}

int Placement::workers() const {
  return std::accumulate(hosts.begin(), hosts.end(), 0, [](int sum, const HostSlots& one) { return sum + one.slots; });
}

absl::StatusOr<Cluster> FindCluster(const ClusterRequest& request, std::vector<UnknownHost>* unknown) {
  const int ways = !request.hostfile.empty() + !request.lab.empty() + request.slurm;
  if (ways > 1) {
    return absl::InvalidArgumentError("give --hostfile, --lab or --slurm; each says where the workers go");
  }
  ASSIGN_OR_RETURN(const std::vector<HostSlots> named, NamedHosts(request.hosts));
  if (!request.lab.empty() && request.ssh.empty()) return FindLab(request.lab, named);
  if (request.hosts.empty() && request.hostfile.empty() && !request.slurm) {
    return absl::InvalidArgumentError("--ssh: is a command for --hosts and --hostfile; give one of them");
  }
  const std::vector<std::string> ssh = absl::StrSplit(request.ssh, ' ', absl::SkipEmpty());
  if (!request.ssh.empty() && (request.slurm || !request.lab.empty() || ssh.empty())) {
    return absl::InvalidArgumentError("--ssh: is a command for --hosts and --hostfile, as 'ssh -p 2222'");
  }
  Cluster cluster;
  if (request.slurm) {
    RETURN_IF_ERROR(FindSlurm(&cluster));
    RETURN_IF_ERROR(Choose(named, "this job of Slurm's", &cluster));
  } else {
    RETURN_IF_ERROR(FindListed(request, named, &cluster));
  }
  if (!request.ssh.empty()) {
    // Its own options first: ssh takes the first value of each.
    std::vector<std::string> words = ssh;
    words.insert(words.end(), cluster.agent.words.begin() + 1, cluster.agent.words.end());
    cluster.agent.words = std::move(words);
  }
  ASSIGN_OR_RETURN(const std::vector<LocalAddress> local, LocalAddresses());
  std::vector<Route> routes;
  std::vector<size_t> without;
  for (size_t i = 0; i < cluster.hosts.size(); ++i) {
    absl::StatusOr<Route> route = RouteByAgent(cluster.hosts[i].host, cluster.agent, local);
    if (!route.ok() && unknown != nullptr) {
      unknown->push_back({cluster.hosts[i], route.status()});
      without.push_back(i);
      continue;
    }
    RETURN_IF_ERROR(route.status());
    cluster.here.push_back(route->here);
    cluster.addresses.push_back(route->address);
    routes.push_back(*std::move(route));
  }
  LeaveOut(without, &cluster);
  cluster.network = NetworkOf(routes);
  // This machine may be named by an address that only it reaches.
  for (size_t i = 0; i < routes.size(); ++i) {
    if (routes[i].here && cluster.network.remote) cluster.addresses[i] = cluster.network.listen;
  }
  return cluster;
}

namespace {

// Where two share their arithmetic they count as one.
int CoresOf(const Cluster& cluster, const std::vector<HostFacts>& facts, size_t host) {
  if (!cluster.cores.empty()) return cluster.cores[host];
  int cores = facts[host].cores;
  if (facts[host].physical > 0) cores = std::min(cores, facts[host].physical);
  return facts[host].quota > 0 ? std::min(cores, facts[host].quota) : cores;
}

// Of each host, where they are not said: its share of the workers, or of its machine's cores.
std::vector<int> SlotsOf(const Cluster& cluster, const std::vector<HostFacts>& facts, int workers, int threads) {
  const std::vector<HostSlots>& hosts = cluster.hosts;
  std::map<std::string, int> on_machine;
  for (const HostFacts& one : facts) ++on_machine[one.machine];
  const auto said = [](const HostSlots& one) { return one.slots > 0; };
  const bool share = workers > 0 && std::none_of(hosts.begin(), hosts.end(), said);
  const int count = static_cast<int>(hosts.size());
  std::vector<int> slots;
  for (int i = 0; i < count; ++i) {
    // A quota is the host's own, however many share its machine.
    const int cores = CoresOf(cluster, facts, i) / (facts[i].quota > 0 ? 1 : on_machine[facts[i].machine]);
    slots.push_back(said(hosts[i]) ? hosts[i].slots
                    : share        ? workers / count + (i < workers % count ? 1 : 0)
                                   : std::max(1, cores / std::max(1, threads)));
  }
  return slots;
}

}  // namespace

absl::StatusOr<Placement> PlaceWorkers(const Cluster& cluster, const std::vector<HostFacts>& facts, int workers,
                                       int threads) {
  const std::vector<int> slots = SlotsOf(cluster, facts, workers, threads);
  const int most = std::accumulate(slots.begin(), slots.end(), 0);
  if (workers > most) {
    return absl::FailedPreconditionError(absl::StrCat("--workers ", workers, ": the hosts have ", most,
                                                      " slots; give them more (host:SLOTS), or start fewer workers"));
  }
  Placement placement;
  int left = workers == 0 ? most : workers;
  // Hosts that are one machine share its cores.
  struct Machine {
    int hosts = 0, workers = 0, cores = 0;
    bool quota = false;
  };
  std::map<std::string, Machine> machines;
  for (size_t i = 0; i < slots.size(); ++i) {
    const int here = std::min(left, slots[i]);
    if (here == 0) continue;
    left -= here;
    placement.hosts.push_back({cluster.hosts[i].host, here});
    Machine& machine = machines[facts[i].machine];
    ++machine.hosts;
    machine.quota = machine.quota || facts[i].quota > 0;
    machine.workers += here;
    const int cores = CoresOf(cluster, facts, i);
    machine.cores =
        facts[i].quota > 0 ? std::min(machine.cores + cores, facts[i].cores) : std::max(machine.cores, cores);
  }
  placement.threads = threads;
  for (const auto& [id, machine] : machines) {
    const int fit = std::max(1, machine.cores / machine.workers);
    if (threads == 0) placement.threads = placement.threads == 0 ? fit : std::min(placement.threads, fit);
  }
  bool fills = false;
  placement.bind = !cluster.slurm;  // which has given the job cores of its own already
  for (const auto& [id, machine] : machines) {
    // Two that share a machine would both begin at its first core, and so would two containers.
    const int used = machine.workers * placement.threads;
    placement.bind = placement.bind && machine.hosts == 1 && !machine.quota && used <= machine.cores;
    fills = fills || 2 * used > machine.cores;
    placement.yield = placement.yield || used > machine.cores;
  }
  placement.bind = placement.bind && fills;  // else there may be other runs, which would begin at the same cores
  return placement;
}

void Describe(const Cluster& cluster, const Placement& placement, MpirunOptions* options) {
  options->hosts = placement.hosts;
  options->networks = cluster.network.networks;
  if (!cluster.slurm) options->agent = cluster.agent.words;
  options->prefix = cluster.prefix;
  options->bind = placement.bind;
  options->yield = placement.yield;
  // A lab's links change from run to run: what was measured on them is kept for none.
  if (!cluster.prefix.empty() && !options->scratch.empty()) {
    options->environment.emplace_back("XDG_CACHE_HOME", options->scratch);
  }
}

}  // namespace lockstep
