#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/launch/network.h"

namespace lockstep {

inline constexpr char kDefaultLab[] = "lab";

// A cluster on this machine: each host is a network namespace with a host name and an address of its own, joined to a
// switch by a link that is shaped in each direction. All of it, the switch too, lies in namespaces named
// lockstep-<lab>-<host>, host 0 the switch: nothing is put into the machine's own network, and labs stand side by side
// with the same addresses, 10.77.0.<host>, and names, host<host>.
//
// The machine holds a lab's whole state, objects of this class its name alone. Beside the namespaces there is a file,
// /run/lockstep-labs/<lab>, locked by whoever makes the lab or takes it away: what a process that was killed there left
// half done, the next Up or Down of any lab takes away.
//
// Needs root, iproute2 and util-linux; FailedPrecondition says what is missing.
class Lab {
 public:
  static constexpr int kMostHosts = 200;
  // One link, both directions.
  struct Link {
    std::string rate;   // as tc takes it: 1gbit, 200mbit; empty or none: not shaped
    std::string delay;  // one way: 5ms; empty or none: none. FailedPrecondition where the kernel has no netem
  };
  struct Plan {
    int hosts = 0;
    Link link;                     // of every host …
    std::map<int, Link> of_hosts;  // … but these
  };
  // Letters, digits, '_', '.'; InvalidArgument for others.
  static absl::StatusOr<Lab> Named(const std::string& name);

  // AlreadyExists: there is one of that name. On an error nothing is left.
  absl::Status Up(const Plan& plan) const;
  // With every process that runs in it, however it was started. Fine if there is none.
  absl::Status Down() const;
  // Of one host, or of all with host 0. NotFound: no such lab, or host. Fields that are empty stay as they are.
  absl::Status Shape(int host, const Link& link) const;
  // As it is now.
  absl::StatusOr<Link> LinkOf(int host) const;
  // Takes the host's link down: nothing passes any more, and no connection is ended by it. And up again.
  absl::Status Cut(int host) const;
  absl::Status Mend(int host) const;
  absl::StatusOr<bool> IsCut(int host) const;

  // NotFound: there is no such lab, or it has no such host.
  absl::Status CheckHost(int host) const;
  // 1, 2, …; empty: there is no such lab.
  absl::StatusOr<std::vector<int>> Hosts() const;
  // What runs `words` on a host: to be put before them, or to be executed with them.
  std::vector<std::string> CommandOn(int host, const std::vector<std::string>& words) const;

  // Before an address and a command: what gets it there, as ssh would. This program, under another word.
  std::vector<std::string> AgentWords() const;
  // No link leads the agent there; what shows on a host whether its own is cut: 255.
  static constexpr char kIsThere[] = "ip link show e0 | grep -q LOWER_UP || exit 255";
  // Of every lab, as seen from its hosts.
  static ClusterNetwork Network();

  const std::string& name() const { return name_; }
  static std::string AddressOf(int host);
  static std::string NameOf(int host);  // host3
  // The host of an address or a name as above; 0: neither.
  static int HostOf(const std::string& address);

  // Names of this machine's labs, those left out that are half made.
  static absl::StatusOr<std::vector<std::string>> All();

 private:
  explicit Lab(std::string name) : name_(std::move(name)) {}
  absl::Status Build(const Plan& plan) const;
  absl::Status AddHost(int host) const;
  absl::Status ShapeOne(int host, const Link& link) const;
  std::string SpaceOf(int host) const;

  std::string name_;
};

}  // namespace lockstep
