#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/trace/clock_offset.h"
#include "worker/comm/ways.h"

namespace lockstep {

enum class DType { kF32, kF64, kI64, kU64, kU8 };
enum class ReduceOp { kSum, kMin, kMax };
// How float32 travels between processes: as it is, or rounded to the nearest of a shorter format at every hop. Every
// rank gets the same bits either way, since what is complete is rounded before it is passed on. half.h has the formats.
enum class Wire { kExact, kF16, kBF16 };
int DTypeSize(DType dtype);

// What one step's ranks tell each other beside the gradient. Plain integers and doubles; merged over all ranks by
// MergeTail, in rank order where the order of additions matters, so that every rank holds the same bits.
struct StepTail {
  double loss_sum = 0;
  int64_t samples = 0;
  uint64_t fingerprint = 0;      // sum modulo 2^64
  int64_t control = 0;           // minimum: the highest directive that all ranks hold
  int64_t non_finite_rank = -1;  // lowest rank whose loss or gradient is not finite; -1: none
  double last_arrival = 0;       // seconds since 1970 on rank 0's clock, of the rank that came last …
  int64_t last_rank = -1;        // … and which that is
  double first_arrival = 0;      // minimum
  int64_t stop_signal = 0;       // maximum
  int64_t clocks_due = 0;        // maximum; 1: the ranks' clocks are to be measured after this step

  // Whether all ranks do the same. CommThread fills the first three in and turns a mismatch into an error.
  int64_t rank = -1;           // of the first rank that was merged
  int64_t number = 0;          // operations handed over since the start, the tail counted
  uint64_t digest = 0;         // of kind, name and size of those since the previous tail
  int64_t mismatch_rank = -1;  // the first one whose number or digest is another; -1: none
  int64_t mismatch_number = 0;
};
static_assert(std::is_trivially_copyable_v<StepTail>);  // travels as bytes
void MergeTail(const StepTail& from, StepTail* into);
// FailedPrecondition names both sides if the merged tails say that ranks do not run the same collectives.
absl::Status CheckTail(const StepTail& tail);

// What ranks tell each other outside of all collectives when one has waited for long: RollCall makes and reads it.
struct RollWord {
  struct Place {          // an operation
    int64_t number = -1;  // -1: none
    int64_t bytes = 0;
    uint64_t digest = 0;  // of kind, name and size of all operations up to this one
    char what[48] = "";   // "all-reduce 'bucket.0'", cut off if too long
  };
  int64_t asks = 0;  // 1: to be answered
  int64_t done = 0;  // 1: `at` is done, and nothing was handed over since
  Place at;          // what the sender waits for, or did last
  Place about;       // of an answer: the sender's own operation of the number that the question was at
};
static_assert(std::is_trivially_copyable_v<RollWord>);  // travels as bytes

// Round trips to rank 0, by which a rank learns how its clock stands to that one's.
struct ClockExchange {
  std::function<int64_t()> now_ns;  // this rank's clock; called by the communication thread
  std::vector<ClockTrip> trips;     // what came of it; none on rank 0
};

// A message of a collective between two hosts, as one of its two ranks knows it. Nanoseconds of MonotonicNanos.
struct Message {
  int peer = 0;       // its rank in the job
  bool sent = false;  // by this rank; else it comes from the peer
  int tag = 0;        // tells it, together with its order among those of the same tag, from the peer's others
  int64_t bytes = 0;
  int64_t ready_ns = 0;  // handed to MPI, or room was made for it
  int64_t came_ns = 0;   // of one that was not sent; 0: not yet
};

// One collective under way. Owned by whoever started it; destroyed only once done, or when the process is about to
// leave, since a peer may still write into its buffers.
class Operation {
 public:
  virtual ~Operation() = default;
  // Drives it forward, never blocks. True: done.
  virtual absl::StatusOr<bool> Poll() = 0;
  // Bytes that this rank sends to other processes for it; known once it is done. In a window what a rank reads in the
  // others' memory counts, if all ranks are on its host; else what goes between hosts alone.
  virtual int64_t wire_bytes() const { return 0; }
  // How it went, as `collective.algorithm` has it, in words that last; known once it is done. Empty: by what its
  // Collectives' algorithm() says.
  virtual absl::string_view algorithm() const { return {}; }
  // Its first messages to and from ranks on other hosts, in the order of `ready_ns`; good as long as the operation.
  // None of what a library sends.
  virtual absl::Span<const Message> messages() const { return {}; }
  // It has collectives of its own still to start, from Poll. Whoever polls it starts no other meanwhile: when that
  // would be differs between ranks, and all have to start the same in the same order.
  virtual bool starts_more() const { return false; }
};

// Collective operations over bytes; knows no tensor. Every rank starts the same operations in the same order with the
// same sizes; tails have an order of their own, so that a rank may start one before what others start first. All calls
// come from one thread, the communication thread. Sums are bitwise the same on every rank and from run to run. `data`
// is aligned to its type. An implementation outlives its operations.
class Collectives {
 public:
  virtual ~Collectives() = default;
  virtual int rank() const = 0;
  virtual int world() const = 0;
  // A rank's number in the job, for messages: a group may be of some of the job's ranks.
  virtual int JobRank(int rank) const { return rank; }
  virtual std::string algorithm() const = 0;
  // Which way the all-reduces that are started from now on go, by their bytes; the same on all ranks. Those that know
  // one way only leave it at that.
  virtual void SetWays(const WayTable& ways) {}
  // In place; `data` stays valid and untouched until done. Only a sum of kF32 may have another `wire` than kExact.
  virtual absl::StatusOr<std::unique_ptr<Operation>> AllReduce(absl::Span<std::byte> data, DType dtype, ReduceOp op,
                                                               Wire wire) = 0;
  absl::StatusOr<std::unique_ptr<Operation>> AllReduce(absl::Span<std::byte> data, DType dtype, ReduceOp op) {
    return AllReduce(data, dtype, op, Wire::kExact);
  }
  virtual absl::StatusOr<std::unique_ptr<Operation>> AllReduceTail(StepTail* tail) = 0;
  virtual absl::StatusOr<std::unique_ptr<Operation>> Broadcast(absl::Span<std::byte> data, int root) = 0;
  // Everyone's `own`, by rank, into `all`: world times its size. Both stay valid until done.
  virtual absl::StatusOr<std::unique_ptr<Operation>> AllGather(absl::Span<const std::byte> own,
                                                               absl::Span<std::byte> all) = 0;
  // `from`'s data into `to`'s, which has the same size. All ranks call it; what the others give is not looked at.
  virtual absl::StatusOr<std::unique_ptr<Operation>> Transfer(absl::Span<std::byte> data, int from, int to) = 0;
  virtual absl::StatusOr<std::unique_ptr<Operation>> Barrier() = 0;
  // All ranks call it; `exchange` stays valid until done. By default ranks have no clocks of their own.
  virtual absl::StatusOr<std::unique_ptr<Operation>> ExchangeClocks(ClockExchange* exchange);

  // Words outside of all collectives; neither call ever blocks. One that cannot leave, since an earlier one to the same
  // rank has not left, is dropped. By default nobody speaks and nobody hears.
  virtual absl::Status Tell(int rank, const RollWord& word) { return absl::OkStatus(); }
  // A word that has come; its sender's rank. -1: none has.
  virtual absl::StatusOr<int> Hear(RollWord* word) { return -1; }
};

}  // namespace lockstep
