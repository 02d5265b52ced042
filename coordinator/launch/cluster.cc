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

namespace lockstep {
namespace {

constexpr int64_t kMaxHostfile = 16 << 20;

absl::StatusOr<std::vector<HostSlots>> HostsOf(const ClusterRequest& request) {
  if (!request.hosts.empty()) {
    absl::StatusOr<std::vector<HostSlots>> hosts = ParseHosts(request.hosts);
    if (hosts.ok()) return hosts;
    return absl::InvalidArgumentError(absl::StrCat("--hosts: ", hosts.status().message()));
  }
  ASSIGN_OR_RETURN(const std::string text, FileSystem::Real()->Read(request.hostfile, kMaxHostfile));
  return ParseHostfile(request.hostfile, text);
}

absl::StatusOr<Cluster> FindLab(const std::string& name) {
  ASSIGN_OR_RETURN(const Lab lab, Lab::Named(name));
  RETURN_IF_ERROR(lab.CheckHost(0));
  ASSIGN_OR_RETURN(const std::vector<int> numbers, lab.Hosts());
  Cluster cluster;
  for (const int number : numbers) cluster.hosts.push_back({Lab::AddressOf(number), 0});
  cluster.here.assign(cluster.hosts.size(), false);
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

absl::StatusOr<Cluster> FindCluster(const ClusterRequest& request) {
  const int ways = !request.hosts.empty() + !request.hostfile.empty() + !request.lab.empty();
  if (ways > 1) {
    return absl::InvalidArgumentError("give one of --hosts, --hostfile and --lab; each says where the workers go");
  }
  if (!request.lab.empty()) return FindLab(request.lab);
  Cluster cluster;
  ASSIGN_OR_RETURN(cluster.hosts, HostsOf(request));
  if (!request.ssh.empty()) {
    // Its own options first: ssh takes the first value of each.
    std::vector<std::string> words = absl::StrSplit(request.ssh, ' ', absl::SkipEmpty());
    words.insert(words.end(), cluster.agent.words.begin() + 1, cluster.agent.words.end());
    cluster.agent.words = std::move(words);
  }
  ASSIGN_OR_RETURN(const std::vector<LocalAddress> local, LocalAddresses());
  std::vector<Route> routes;
  for (const HostSlots& one : cluster.hosts) {
    ASSIGN_OR_RETURN(Route route, RouteTo(one.host, local));
    cluster.here.push_back(route.here);
    routes.push_back(std::move(route));
  }
  cluster.network = NetworkOf(routes);
  return cluster;
}

namespace {

// Of each host, where they are not said: its share of the workers, or of its machine's cores.
std::vector<int> SlotsOf(const std::vector<HostSlots>& hosts, const std::vector<HostFacts>& facts, int workers,
                         int threads) {
  std::map<std::string, int> on_machine;
  for (const HostFacts& one : facts) ++on_machine[one.machine];
  const auto said = [](const HostSlots& one) { return one.slots > 0; };
  const bool share = workers > 0 && std::none_of(hosts.begin(), hosts.end(), said);
  const int count = static_cast<int>(hosts.size());
  std::vector<int> slots;
  for (int i = 0; i < count; ++i) {
    const int cores = facts[i].cores / on_machine[facts[i].machine];
    slots.push_back(said(hosts[i]) ? hosts[i].slots
                    : share        ? workers / count + (i < workers % count ? 1 : 0)
                                   : std::max(1, cores / threads));
  }
  return slots;
}

}  // namespace

absl::StatusOr<Placement> PlaceWorkers(const Cluster& cluster, const std::vector<HostFacts>& facts, int workers,
                                       int threads) {
  const std::vector<int> slots = SlotsOf(cluster.hosts, facts, workers, threads);
  const int most = std::accumulate(slots.begin(), slots.end(), 0);
  if (workers > most) {
    return absl::FailedPreconditionError(absl::StrCat("--workers ", workers, ": the hosts have ", most,
                                                      " slots; give them more (host:SLOTS), or start fewer workers"));
  }
  Placement placement;
  int left = workers == 0 ? most : workers;
  // Hosts that are one machine share its cores.
  struct Machine {
    int hosts = 0, threads = 0, cores = 0, physical = 0;
  };
  std::map<std::string, Machine> machines;
  for (size_t i = 0; i < slots.size(); ++i) {
    const int here = std::min(left, slots[i]);
    if (here == 0) continue;
    left -= here;
    placement.hosts.push_back({cluster.hosts[i].host, here});
    Machine& machine = machines[facts[i].machine];
    ++machine.hosts;
    machine.threads += here * threads;
    machine.cores = std::max(machine.cores, facts[i].cores);
    machine.physical = std::max(machine.physical, facts[i].physical);
  }
  placement.bind = true;
  for (const auto& [id, machine] : machines) {
    // Two that share a machine would both begin at its first core.
    placement.bind =
        placement.bind && machine.hosts == 1 && machine.threads <= std::min(machine.cores, machine.physical);
    placement.yield = placement.yield || machine.threads > machine.cores;
  }
  return placement;
}

void Describe(const Cluster& cluster, const Placement& placement, MpirunOptions* options) {
  options->hosts = placement.hosts;
  options->networks = cluster.network.networks;
  options->agent = cluster.agent.words;
  options->prefix = cluster.prefix;
  options->bind = placement.bind;
  options->yield = placement.yield;
}

}  // namespace lockstep
