#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep {

// A host, and how many workers may run there.
struct HostSlots {
  std::string host;    // a name, or an address
  int slots = 0;       // 0: not said
  std::string worker;  // where lockstep-worker is there; empty: where it is here
  friend bool operator==(const HostSlots& a, const HostSlots& b) {
    return a.host == b.host && a.slots == b.slots && a.worker == b.worker;
  }
};

// "a:4,b:4" or "a,b"; names or IPv4 addresses, which are what mpirun takes. InvalidArgument names the part that is
// wrong.
absl::StatusOr<std::vector<HostSlots>> ParseHosts(absl::string_view text);

// A file as Open MPI reads it: a host a line, with slots=N (or max_slots, which counts if it is less) after it, '#' to
// the end of a line; or host:N as in ParseHosts. And, which Open MPI does not know, worker=PATH. `path` is for
// messages: "hosts.txt:3: …".
absl::StatusOr<std::vector<HostSlots>> ParseHostfile(const std::string& path, absl::string_view text);

// "a:4,b" of them, as ParseHosts reads it.
std::string HostsText(const std::vector<HostSlots>& hosts);

}  // namespace lockstep
