#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lockstep {

// An address of this machine, on an interface that is up.
struct LocalAddress {
  std::string interface;  // eth0
  std::string address;    // 10.1.2.3, or an IPv6 address
  std::string network;    // 10.1.0.0/16, as Open MPI takes it
  bool loopback = false;
};
absl::StatusOr<std::vector<LocalAddress>> LocalAddresses();

// How a host is reached from here.
struct Route {
  std::string address;     // the host's, as its name resolves
  LocalAddress from;       // the one that packets to it carry
  bool here = false;       // it is this machine
  bool neighbour = false;  // its address is in `from`'s network, so nothing lies between
};
// NotFound: the name does not resolve. Unavailable: there is no route. Sends nothing.
absl::StatusOr<Route> RouteTo(const std::string& host, const std::vector<LocalAddress>& local);

// What carries MPI between hosts, and where they reach this machine.
struct ClusterNetwork {
  std::vector<std::string> networks;  // of the interfaces to use, on every host: no docker0, nor what leads elsewhere
  std::string listen;                 // the address here that all hosts can reach; 127.0.0.1 if all are this machine
  bool remote = false;                // there is a host that is another machine
};
// Of the ways to all hosts. A host behind a router is named by its own address alone: its network's size is not known.
ClusterNetwork NetworkOf(const std::vector<Route>& routes);

// Where a host has a further address in one of the networks, as of a service or a bridge, Open MPI would use both and
// hang on the one that leads nowhere: such a network is replaced by the addresses in it at which hosts are reached.
// `reached`: by host. `addresses`: all of each.
void NarrowNetworks(const std::vector<std::string>& reached, const std::vector<std::vector<std::string>>& addresses,
                    ClusterNetwork* network);

}  // namespace lockstep
