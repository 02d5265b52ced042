#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/supervise/hosts.h"
#include "coordinator/supervise/process.h"

namespace lockstep {

// How commands get to hosts: by words that stand before a host's name and a command, as ssh takes them. Threads: any.
struct Agent {
  std::vector<std::string> words = {"ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"};
  std::string is_there = "true";  // what shows on a host that it is; where the agent gets there without it: 255 says no

  // What runs `command` on `host`; if that is `here`, the command itself.
  std::vector<std::string> CommandOn(const std::string& host, bool here, const std::vector<std::string>& command) const;
};

// What a run needs on a host before its workers start there.
struct HostNeeds {
  std::string worker_program;                    // must be there …
  std::map<std::string, std::string> worker_of;  // … but on these hosts, which have it elsewhere
  std::string scratch;                           // a folder that is made, for this user alone
  std::string credentials;                       // content of the file `credentials` in it
};

struct HostFacts {
  std::string host;
  std::string machine;  // the same for hosts that are one machine under several names, or containers of one
  int cores = 0;        // that a process may run on there
  int physical = 0;     // of the machine; 0: not known
  int quota = 0;        // cores that a container may use the time of, whichever they are; 0: all
  std::vector<std::string> addresses;  // IPv4, of all its interfaces
};

// Gets every host ready, all at once, and says what it is like. Takes away folders that dead runs have left there.
// FailedPrecondition names the first host that cannot be reached, or lacks something, with what to do. `here`: the
// hosts for which no agent is needed. Secrets travel on the agent's standard input.
absl::StatusOr<std::vector<HostFacts>> PrepareHosts(const std::vector<std::string>& hosts,
                                                    const std::vector<bool>& here, const Agent& agent,
                                                    const HostNeeds& needs, absl::Duration timeout);

// Takes `scratch` away on every host, with the processes that still have it in their environment. A host that cannot be
// reached is left alone.
void ClearHosts(const std::vector<std::string>& hosts, const std::vector<bool>& here, const Agent& agent,
                const std::string& scratch, absl::Duration timeout);

// Asks `host` whether it is there, and ends once it has answered. That ssh cannot get there is no answer: it tries
// again.
ChildOptions HostQuestion(const std::string& host, const Agent& agent);

// In `scratch` on every host: what runs lockstep-worker, wherever it is there; and the file with the credentials.
std::string HostWorkerPath(const std::string& scratch);
std::string HostCredentialsPath(const std::string& scratch);

// A folder for a run on several hosts, under the same name on each, that no other run has; nothing is made.
absl::StatusOr<std::string> HostScratchPath();

}  // namespace lockstep
