#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/comm/collectives.h"

namespace lockstep {

// Which window: the same on all ranks of the host, but for `index`.
struct WindowOptions {
  std::vector<int> ranks;                      // of the job, that share this host; ascending
  int index = 0;                               // this rank's place among them
  std::string name;                            // not used by any other window of this host at the time
  int64_t shared_bytes = 0;                    // one copy for all: parameters, optimizer states
  int64_t rank_bytes = 0;                      // each rank's own: gradients
  absl::Duration timeout = absl::Seconds(30);  // of its making, and of every barrier
};

// Memory that the ranks of one host share. Made by the first of them (memfd) with all of its pages in place, so that
// memory which runs out is an error here and no SIGBUS later; handed to the others over a socket without a name in any
// file system. The kernel frees it with the last process that has it, however that one ends.
//
//   [ shared ] [ rank 0's ] [ rank 1's ] …      each begins on a page of its own; huge pages where the kernel gives
//   them
//
// Who writes what and when is the callers' agreement, kept by Barrier: what a rank wrote before its n-th barrier, every
// rank may read after its own n-th. Of a rank, one thread uses the barrier and one
// the counters.
class HostWindow {
 public:
  // All ranks of `options.ranks` call it together. ResourceExhausted, FailedPrecondition: this host gives no such
  // window; says why and what mends it. DeadlineExceeded names the ranks that have not come. An error on the first rank
  // reaches the others; one on another does not, so agree on the outcome afterwards.
  static absl::StatusOr<std::unique_ptr<HostWindow>> Open(const WindowOptions& options);
  // For ranks that are threads of this process: by index, on one mapping, so that a race detector sees what they share
  // as one memory. `options.index` and `name` are of no account. ResourceExhausted: no memory.
  static absl::StatusOr<std::vector<std::unique_ptr<HostWindow>>> OpenForThreads(const WindowOptions& options);
  ~HostWindow();
  HostWindow(const HostWindow&) = delete;
  HostWindow& operator=(const HostWindow&) = delete;

  int index() const { return index_; }
  int count() const { return static_cast<int>(ranks_.size()); }
  const std::vector<int>& ranks() const { return ranks_; }
  absl::Span<std::byte> shared() const { return shared_; }
  absl::Span<std::byte> of(int index) const { return {own_ + index * rank_stride_, static_cast<size_t>(rank_bytes_)}; }

  // A place of `index`'s own for the step's tail, and one for a number that is added up over the host.
  StepTail& tail(int index) const;
  double& number(int index) const;

  // Counters of `index`'s own, 0 at first, for operations that many of are under way at a time (HostCollectives); only
  // that rank's communication thread writes them.
  enum Counter { kCame, kDone, kCounters };
  std::atomic<uint64_t>& counter(int index, Counter which) const;
  // Whether every rank's is above `value`.
  bool AllAbove(Counter which, uint64_t value) const;

  // Until every rank has come as often. Spins for a moment, then gives its core away, then sleeps; so that it costs
  // little latency with a core for each rank and no time slices without. DeadlineExceeded names the ranks that are
  // missing and, as `what`, what for; the window is then of no more use.
  absl::Status Barrier(absl::string_view what);
  // How long this rank stood at its last barrier, which was OK, before the last rank came to it.
  int64_t waited_ns() const;

 private:
  struct Control;  // one rank's line in the window
  struct Header;
  using Mapping = std::shared_ptr<std::byte>;
  HostWindow(const WindowOptions& options, Mapping mapping);

  static int64_t SizeOf(const WindowOptions& options);
  static absl::StatusOr<int> Make(const WindowOptions& options, int64_t bytes);
  Control& control(int index) const;
  Header& header() const;
  bool AllHaveCome(uint32_t number) const;
  absl::Status Missing(uint32_t number, absl::string_view what) const;

  const std::vector<int> ranks_;
  const int index_;
  const absl::Duration timeout_;
  const Mapping mapping_;
  std::byte* const base_;
  const int64_t rank_bytes_, rank_stride_;
  absl::Span<std::byte> shared_;
  std::byte* own_ = nullptr;  // rank 0's
  const bool crowded_;        // more ranks than cores
  uint32_t barriers_ = 0;
};

}  // namespace lockstep
