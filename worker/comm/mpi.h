#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/collectives.h"
#include "worker/comm/host_collectives.h"
#include "worker/comm/host_window.h"
#include "worker/comm/ways.h"

namespace lockstep {

// Ranks that give the same `group` are together, in the order of `order`, then of rank; a negative one is in none.
struct MpiPart {
  int group = 0, order = 0;
};

// Segments of a message: what fits a core's second-level cache, and what Open MPI's TCP transport sends without asking
// first (64 KiB with its header). Beyond that sender and receiver shake hands, and their words queue behind the data
// that goes the other way: two hosts then got 53% of a link that is busy both ways.
inline constexpr int64_t kHostSegmentBytes = 256 << 10;
inline constexpr int64_t kLinkSegmentBytes = 60 << 10;

// The defaults are for use; tests make them small.
struct MpiOptions {
  std::optional<MpiPart> part;                       // unset: all ranks together
  absl::Duration setup_timeout = absl::Seconds(60);  // until all ranks have come to make the communicator
  WayTable ways = LibraryWays();                     // of an all-reduce
  // Of one message; 0: kHostSegmentBytes where all ranks are on one host, else kLinkSegmentBytes.
  int64_t segment_bytes = 0;
  // A sum with a shorter format on the wire travels in it, and in a ring, from this size times the world on; what is
  // smaller goes exact. A ring has 2(n-2) latencies more than the two rounds of a direct reduction; at 0.1 ms and
  // 1 Gbit the bytes saved outweigh them from 2 n 12.5 KB on.
  int64_t shorten_from_bytes = 32 << 10;
  int64_t scratch_bytes = 16 << 20;  // of one reduction; many ranks get smaller segments
  int64_t library_bytes = 1 << 30;   // of one of the library's calls, which count in int
};

// MPI itself, of which a process has one: initialised with MPI_THREAD_SERIALIZED, used by one thread at a time.
// Names no MPI type, so that only worker/comm includes mpi.h.
class MpiSession {
 public:
  // FailedPrecondition: the library does not give MPI_THREAD_SERIALIZED.
  static absl::StatusOr<std::unique_ptr<MpiSession>> Create(int* argc, char*** argv);
  // Finalises MPI, which waits for all ranks. A process whose job is broken calls Abandon or leaves by _exit instead.
  ~MpiSession();
  // The job is broken: the destructor leaves MPI as it is.
  void Abandon() { abandoned_ = true; }
  int rank() const { return rank_; }
  int world() const { return world_; }
  std::string library_version() const;
  // An all-reduce goes one of several ways, by its size (ways.h, mpi_collectives.cc), by non-blocking calls alone. All
  // ranks call it together; each has communicators of its own. Outlived by the session. Null for a rank that is in no
  // group.
  absl::StatusOr<std::unique_ptr<Collectives>> NewCollectives(const MpiOptions& options = MpiOptions());
  // Which ranks share this rank's host: those with the same host name, boot, and network namespace (so not those of
  // other containers, nor of an emulated host). All ranks call it together, while no collective is under way.
  struct Host {
    std::vector<std::vector<int>> hosts;  // the ranks of each, ascending; hosts in the order of their first
    std::vector<std::string> names;       // of the hosts
    int host = 0;                         // this rank's among them
    int index = 0;                        // this rank's place on it
    std::string window_name;              // the same on all of its ranks, and never used before

    const std::vector<int>& ranks() const { return hosts[host]; }
    int fewest() const;  // ranks that a host has at least
  };
  absl::StatusOr<Host> FindHost(absl::Duration deadline);
  // What a rank shares with the others of its host, and those of its index with it between hosts.
  struct Share {
    std::unique_ptr<HostWindow> window;
    std::unique_ptr<Collectives> peers;            // null: one host, or this rank has no slice
    std::unique_ptr<HostCollectives> collectives;  // over both, and `all`
  };
  // `sizes`: shared_bytes, rank_bytes and timeout. `all`: the collectives of all ranks, which outlive the share. All
  // ranks call it together, while no collective is under way. Without a window on some host it is an error on all
  // ranks: of those that have none, why and what mends it; Unavailable on the others.
  absl::StatusOr<Share> ShareHost(const Host& host, const WindowOptions& sizes, const MpiOptions& options,
                                  Collectives* all);
  // Whether `own` is true on all ranks. All ranks call it together, while no collective is under way.
  absl::StatusOr<bool> OnAllRanks(bool own, absl::Duration deadline);

  // MPI_Allreduce itself, which blocks for as long as it takes: to measure ours against, no more.
  absl::Status BlockingAllReduce(absl::Span<float> data);
  // Bytes per second that ranks `one` and `other` send each other as one stream of messages for `time`: from one to the
  // other, or both ways at once, the slower of the two. All ranks call it together and get the same; those that have no
  // part in it wait. DeadlineExceeded.
  absl::StatusOr<double> MeasureLink(int one, int other, bool both_ways, absl::Duration time, absl::Duration deadline);

 private:
  absl::StatusOr<std::vector<double>> GatherDoubles(double own, absl::Duration deadline);
  MpiSession(int rank, int world) : rank_(rank), world_(world) {}
  const int rank_, world_;
  bool abandoned_ = false;
};

}  // namespace lockstep
