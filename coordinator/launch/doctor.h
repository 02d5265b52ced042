#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/launch/host_facts.h"
#include "coordinator/launch/link_test.h"
#include "coordinator/launch/network.h"

namespace lockstep {

// One thing that can make a run slow or stuck.
struct Check {
  std::string host;  // empty: of this machine alone, or of all hosts together
  std::string what;  // "BLAS"
  bool ok = true;
  std::string said;   // what it is, or what is wrong
  std::string costs;  // if it is wrong
  std::string mend;   // … a command or a setting
};

// A host with what is to run on it.
struct ExaminedHost {
  std::string name;
  HostReport report;
  int workers = 0;
};

// What a run needs; 0: not known, since there is no config.
struct RunNeeds {
  int threads = 1;           // of a worker
  int64_t shared_bytes = 0;  // of a worker in shared memory
  int64_t memory_bytes = 0;  // of a worker
  int64_t checkpoint_bytes = 0;
  std::string folder;  // where checkpoints go
};

// Pure: what the hosts say of themselves, and their links, against what a run needs. Every check is there, in a fixed
// order, right or wrong. `links` empty: not measured.
std::vector<Check> Examine(const std::vector<ExaminedHost>& hosts, const RunNeeds& needs, const ClusterNetwork& network,
                           const std::vector<LinkFigures>& links);

}  // namespace lockstep
