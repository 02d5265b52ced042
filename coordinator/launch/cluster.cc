#include "coordinator/launch/cluster.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/launch/lab.h"
#include "coordinator/launch/slurm.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxHostfile = 16 << 20;

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

absl::StatusOr<std::vector<HostSlots>> HostsOf(const ClusterRequest& request) {
  std::vector<HostSlots> named, listed;
  if (!request.hosts.empty()) {
    absl::StatusOr<std::vector<HostSlots>> hosts = ParseHosts(request.hosts);
    if (!hosts.ok()) return absl::InvalidArgumentError(absl::StrCat("--hosts: ", hosts.status().message()));
    named = *std::move(hosts);
  }
  if (request.hostfile.empty()) return named;
  ASSIGN_OR_RETURN(const std::string text, FileSystem::Real()->Read(request.hostfile, kMaxHostfile));
  ASSIGN_OR_RETURN(listed, ParseHostfile(request.hostfile, text));
  if (named.empty()) return listed;
  for (HostSlots& one : named) {  // these of the file's, with other slots where they are said
    const auto found =
        std::find_if(listed.begin(), listed.end(), [&](const HostSlots& host) { return host.host == one.host; });
    if (found == listed.end()) {
      return absl::InvalidArgumentError(absl::StrCat("--hosts: ", one.host, " is not in ", request.hostfile,
                                                     "; name hosts that are, or leave one out"));
    }
    one.worker = found->worker;
    if (one.slots == 0) one.slots = found->slots;
  }
  return named;
}

absl::StatusOr<Cluster> FindLab(const std::string& name) {
  ASSIGN_OR_RETURN(const Lab lab, Lab::Named(name));
  RETURN_IF_ERROR(lab.CheckHost(0));
  ASSIGN_OR_RETURN(const std::vector<int> numbers, lab.Hosts());
  Cluster cluster;
  for (const int number : numbers) cluster.hosts.push_back({Lab::AddressOf(number), 0});
  cluster.here.assign(cluster.hosts.size(), false);
  cluster.addresses = cluster.Names();
  cluster.network = Lab::Network();
  cluster.agent.words = lab.AgentWords();
  cluster.prefix = lab.CommandOn(numbers.front(), {});
  return cluster;
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

absl::StatusOr<Cluster> FindCluster(const ClusterRequest& request) {
  const bool listed = !request.hosts.empty() || !request.hostfile.empty();
  const int ways = listed + !request.lab.empty() + request.slurm;
  if (ways > 1) {
    return absl::InvalidArgumentError("give --hosts or --hostfile, --lab, or --slurm; each says where the workers go");
  }
  if (!request.lab.empty() && request.ssh.empty()) return FindLab(request.lab);
  if (request.hosts.empty() && request.hostfile.empty() && !request.slurm) {
    return absl::InvalidArgumentError("--ssh: is a command for --hosts and --hostfile; give one of them");
  }
  const std::vector<std::string> ssh = absl::StrSplit(request.ssh, ' ', absl::SkipEmpty());
  if (!request.ssh.empty() && (request.slurm || ssh.empty())) {
    return absl::InvalidArgumentError("--ssh: is a command for --hosts and --hostfile, as 'ssh -p 2222'");
  }
  Cluster cluster;
  if (request.slurm) {
    RETURN_IF_ERROR(FindSlurm(&cluster));
  } else {
    ASSIGN_OR_RETURN(cluster.hosts, HostsOf(request));
  }
  if (!request.ssh.empty()) {
    // Its own options first: ssh takes the first value of each.
    std::vector<std::string> words = ssh;
    words.insert(words.end(), cluster.agent.words.begin() + 1, cluster.agent.words.end());
    cluster.agent.words = std::move(words);
  }
  ASSIGN_OR_RETURN(const std::vector<LocalAddress> local, LocalAddresses());
  std::vector<Route> routes;
  for (const HostSlots& one : cluster.hosts) {
    ASSIGN_OR_RETURN(Route route, RouteTo(one.host, local));
    cluster.here.push_back(route.here);
    cluster.addresses.push_back(route.address);
    routes.push_back(std::move(route));
  }
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
  placement.bind = !cluster.slurm;  // which has given the job cores of its own already
  for (const auto& [id, machine] : machines) {
    // Two that share a machine would both begin at its first core, and so would two containers.
    const int used = machine.workers * placement.threads;
    placement.bind = placement.bind && machine.hosts == 1 && !machine.quota && used <= machine.cores;
    placement.yield = placement.yield || used > machine.cores;
  }
  return placement;
}

void Describe(const Cluster& cluster, const Placement& placement, MpirunOptions* options) {
  options->hosts = placement.hosts;
  options->networks = cluster.network.networks;
  if (!cluster.slurm) options->agent = cluster.agent.words;
  options->prefix = cluster.prefix;
  options->bind = placement.bind;
  options->yield = placement.yield;
}

}  // namespace lockstep
