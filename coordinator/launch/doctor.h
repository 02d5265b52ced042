#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/launch/host_facts.h"
#include "coordinator/launch/link_test.h"
#include "coordinator/launch/network.h"
#include "coordinator/launch/reach.h"

namespace lockstep {

// One thing that can make a run slow or stuck.
struct Check {
  std::string host;  // empty: of this machine alone, or of all hosts together
  std::string what;  // "BLAS"
  bool ok = true;
  std::string said;     // what it is, or what is wrong
  std::string costs;    // if it is wrong
  std::string mend;     // … what to type; if it begins with "--", to add to this command
  std::string mend_on;  // … on this host; empty: here
};

// A host with what is to run on it.
struct ExaminedHost {
  std::string name;
  HostReport report;
  int workers = 0;
  bool here = false;   // it is this machine
  std::string folder;  // of lockstep's programs there; empty: as here
  bool cut = false;    // a lab's host, whose link is down
};

// What a run needs; 0: not known, since there is no config.
struct RunNeeds {
  int threads = 1;                // of a worker
  int64_t shared_bytes = 0;       // of a worker in shared memory
  int64_t memory_bytes = 0;       // of a worker: itself and its model …
  int64_t batch_bytes = 0;        // … and its batch, with what the passes over it hold, of
  int batch_size = 0;             // samples; the setting is
  bool global_batch = false;      // that of all workers together
  int64_t address_bytes = 0;      // of virtual memory
  int64_t file_bytes = 0;         // of the largest file that is written
  int64_t checkpoints_bytes = 0;  // of all that are there at once
  std::string folder;             // where they go
};

// Everything that is looked at.
struct Examined {
  std::vector<ExaminedHost> hosts;
  // If it is none of these: checkpoints go here. Of a lab it is all of them, with the workers of all.
  std::optional<ExaminedHost> this_machine;
  bool slots_said = false;  // how many workers each host gets is said host by host
  struct Unreached {
    std::string host, why;    // of what ssh said the last line says why
    std::string folder;       // as above
    bool has_address = true;  // its name is known, and there is a way to it
  };
  std::vector<Unreached> unreached;
  RunNeeds needs;
  ClusterNetwork network;
  std::vector<LinkFigures> links;  // of places in `hosts`; empty: not measured
  Agent agent;                     // how commands get to hosts that are not here
  std::string lab;                 // whose hosts these are, if they are
  std::string program, worker_program;
  bool has_key = true;  // this user, for ssh
};

// Pure: what the hosts say of themselves, and their links, against what a run needs. Every check is there, in a fixed
// order, right or wrong.
std::vector<Check> Examine(const Examined& all);

}  // namespace lockstep
