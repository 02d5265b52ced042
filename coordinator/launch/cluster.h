#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/launch/network.h"
#include "coordinator/launch/reach.h"
#include "coordinator/supervise/hosts.h"
#include "coordinator/supervise/mpirun.h"

namespace lockstep {

// Which hosts a run is to use, as people say it: one of them, or none for this machine alone. With a hostfile, a lab or
// Slurm `hosts` are those of it that are to be used.
struct ClusterRequest {
  std::string hosts;     // a:4,b:4
  std::string hostfile;  // a path
  std::string lab;       // the name of one
  std::string ssh;       // what reaches a host, with its options; empty: ssh
  bool slurm = false;    // those of the job of Slurm's that this process belongs to
  bool empty() const { return hosts.empty() && hostfile.empty() && lab.empty() && !slurm; }
};

// Several hosts and how to get at them. Of a lab everything that belongs to the run is executed on its first host.
struct Cluster {
  std::vector<HostSlots> hosts;
  std::vector<bool> here;              // by host: it is this machine
  std::vector<std::string> addresses;  // by host: where it is reached
  std::vector<int> cores;              // by host: those that this run may use; empty: all of each
  std::vector<int64_t> memory;         // by host, the same in bytes; 0: all of it
  bool slurm = false;                  // mpirun gets there by Slurm's own means
  ClusterNetwork network;
  Agent agent;
  std::vector<std::string> prefix;  // words before a command that is to see the cluster's network

  std::vector<std::string> Names() const;
};
// A host to which there is no way: its name is not known, or no route leads there.
struct UnknownHost {
  HostSlots host;
  absl::Status why;
};
// InvalidArgument: more than one way was asked for, or a file or list says what it should not. NotFound: a host's name,
// or the lab. Unavailable: no way to a host. With `unknown` such hosts are left out, and put there. Looks at names and
// routes alone, and asks ssh what a name stands for that nobody else knows.
absl::StatusOr<Cluster> FindCluster(const ClusterRequest& request, std::vector<UnknownHost>* unknown = nullptr);

// Workers on hosts: so many on each, and how mpirun places them.
struct Placement {
  int workers() const;
  std::vector<HostSlots> hosts;  // those that get any, each with as many slots as workers
  bool bind = false;             // each worker to cores of its own
  int threads = 1;               // of a worker
  bool yield = false;            // more threads than cores somewhere: who waits gives way
};
// Fills hosts in their order. `workers` 0: every slot. Where no host's slots are said the workers are shared out
// evenly; else, and with `workers` 0, they are its cores divided by `threads`. `threads` 0: as many as every host has
// cores for. FailedPrecondition: more workers than slots.
absl::StatusOr<Placement> PlaceWorkers(const Cluster& cluster, const std::vector<HostFacts>& facts, int workers,
                                       int threads);

// What mpirun has to be told of it. `options->scratch` is set already.
void Describe(const Cluster& cluster, const Placement& placement, MpirunOptions* options);

}  // namespace lockstep
