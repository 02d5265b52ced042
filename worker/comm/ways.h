#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace lockstep {

// The ways in which an all-reduce between processes can go; see mpi_collectives.cc. All but the library's are ours and
// add up in an order that follows from sizes and ranks alone.
enum class Way {
  kLibrary,   // "mpi": MPI_Iallreduce, whatever the library makes of it
  kGather,    // "gather": everyone's data to everyone, one round
  kDoubling,  // "doubling": all of it in pairs, log2(n) rounds
  kDirect,    // "direct": every slice to its owner and back, two rounds
  kRing,      // "ring": segmented and pipelined, 2(n-1) rounds
};
inline constexpr int kWays = 5;
absl::string_view WayName(Way way);
std::optional<Way> WayOfName(absl::string_view name);

// By size: ascending, the last one for all larger sizes whatever its number.
struct WayUpTo {
  int64_t bytes = 0;
  Way way = Way::kLibrary;
};
using WayTable = std::vector<WayUpTo>;
inline constexpr int64_t kAnySize = std::numeric_limits<int64_t>::max();

// Of a table that is not empty.
Way FindWay(const WayTable& ways, int64_t bytes);
// "gather to 32 KiB, direct to 2 MiB, ring above"
std::string DescribeWays(const WayTable& ways);

inline WayTable LibraryWays() { return {{kAnySize, Way::kLibrary}}; }
// `communication.algorithm: ring`, ours without measuring: doubled up to 32 KiB, reduced directly below 2 MiB, else in
// a ring. The bounds are those of the table in mpi_collectives.cc.
WayTable RingWays();

// "64 KiB", "1.5 MiB".
std::string DescribeBytes(int64_t bytes);

}  // namespace lockstep
