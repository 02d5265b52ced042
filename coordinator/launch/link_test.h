#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/launch/reach.h"

namespace lockstep {

// Links between hosts, measured as what they are to MPI: TCP between the addresses that will carry it.

// One end, on its host: `lockstep doctor --link ADDRESS`. The first line of its standard input is a word that only
// the ends of this test know. Listens at `address`, says "port N", then does what its
// standard input asks for, a line each, until that is closed:
//   ping ADDRESS PORT COUNT     answers "ping ROUND_TRIP_S CLOCK_OFFSET_S": the fastest of COUNT, and by how much the
//   other's
//                               clock is ahead of this one's, by that one
//   send ADDRESS PORT SECONDS   answers "send BYTES_PER_S", as the other received them once the first third was over
// or "failed WHY". Returns the exit code; gone after a minute whatever happens.
int ServeLinks(const std::string& address);

struct LinkHost {
  std::string host, address;
  bool here = false;
  std::string program;  // lockstep's path there
};
// The way between two hosts that is the worse one, if they differ.
struct LinkFigures {
  size_t from = 0, to = 0;  // places of hosts
  double latency_s = 0;     // one way: half of a round trip
  double bytes_per_s = 0;
  double clock_offset_s = 0;  // of `to` against `from`
  absl::Status status;        // else the rest is 0: they do not reach each other
};
// Each pair once, in both directions, as many at a time as do not share a host, within about `budget` in all.
// FailedPrecondition: an end could not be started.
absl::StatusOr<std::vector<LinkFigures>> MeasureLinks(const std::vector<LinkHost>& hosts, const Agent& agent,
                                                      absl::Duration budget);

// Pairs of so many, in rounds in which nobody is twice (the circle method).
std::vector<std::vector<std::pair<size_t, size_t>>> RoundsOfPairs(size_t count);

}  // namespace lockstep
