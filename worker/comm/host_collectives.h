#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/comm/collectives.h"
#include "worker/comm/host_window.h"

namespace lockstep {

// The algorithms `shared` (one host) and `hierarchical` (several): the ranks of a host reduce in their window, and
// between hosts the ranks of one index reduce with each other, each group its own slice of the data.
//
//   data of a rank   [ slice 0 ] [ slice 1 ] …    one for each rank of the host that has the fewest; rank j of a host
//                                                 works on slice j, ranks beyond on none
//
// A slice is first added up over the host's ranks, in rank order and straight from their memory, then over the hosts.
// Slices are the same on every host and each is computed once, so every rank gets the same bits, from run to run too.
//
// What is not in the window (buffers, the tail) goes by `all`. As every Collectives: called by one thread of a rank,
// the same operations in the same order on all ranks of the job. What it is given outlives it.
class HostCollectives : public Collectives {
 public:
  // `all`: of the job. `peers`: the rank of this rank's index on each host, in the order of hosts, the first being that
  // of rank 0; null where there is one host, or on a rank that has no slice. `slices`: as above.
  HostCollectives(HostWindow* window, Collectives* all, Collectives* peers, int hosts, int slices);

  int rank() const override { return all_->rank(); }
  int world() const override { return all_->world(); }
  std::string algorithm() const override { return hosts_ > 1 ? "hierarchical" : "shared"; }
  using Collectives::AllReduce;
  // Sums of kF32 that lie at the same place of each rank's part of the window are reduced there.
  absl::StatusOr<std::unique_ptr<Operation>> AllReduce(absl::Span<std::byte> data, DType dtype, ReduceOp op,
                                                       Wire wire) override;
  absl::StatusOr<std::unique_ptr<Operation>> AllReduceTail(StepTail* tail) override;
  absl::StatusOr<std::unique_ptr<Operation>> Broadcast(absl::Span<std::byte> data, int root) override;
  absl::StatusOr<std::unique_ptr<Operation>> AllGather(absl::Span<const std::byte> own,
                                                       absl::Span<std::byte> all) override;
  absl::StatusOr<std::unique_ptr<Operation>> Transfer(absl::Span<std::byte> data, int from, int to) override;
  absl::StatusOr<std::unique_ptr<Operation>> Barrier() override;
  absl::StatusOr<std::unique_ptr<Operation>> ExchangeClocks(ClockExchange* exchange) override;
  absl::Status Tell(int rank, const RollWord& word) override { return all_->Tell(rank, word); }
  absl::StatusOr<int> Hear(RollWord* word) override { return all_->Hear(word); }

  // The slice of `count` floats from `first` on that this rank works on. Begins on a cache line if `first` does.
  struct Slice {
    int64_t first = 0, count = 0;
  };
  Slice SliceOf(int64_t first, int64_t count) const;

  // How a slice is added up over the hosts; in place, as AllReduce. Null: by peers->AllReduce.
  using BetweenFn = std::function<absl::StatusOr<std::unique_ptr<Operation>>(Collectives* peers, absl::Span<float>)>;
  // As AllReduce of a span of this rank's part of the window, but only SliceOf of it gets the sum; the rest stays as it
  // is, and nothing of it may be written until all ranks of the host are done (a barrier of the window's).
  absl::StatusOr<std::unique_ptr<Operation>> ReduceToSlice(absl::Span<float> data, BetweenFn between);
  // Gives every host's shared part the bits that the host of rank 0 has there. All ranks give the same range of it.
  absl::StatusOr<std::unique_ptr<Operation>> BroadcastShared(absl::Span<std::byte> shared);

 private:
  bool InWindow(absl::Span<const std::byte> data) const;
  absl::StatusOr<std::unique_ptr<Operation>> StartReduction(absl::Span<float> data, bool whole, BetweenFn between);

  HostWindow* const window_;
  Collectives* const all_;
  Collectives* const peers_;
  const int hosts_, slices_;
  uint64_t started_ = 0;  // operations over the window
  uint64_t between_ = 0;  // of those, how many have started all they do between hosts: in order, as all hosts do
};

}  // namespace lockstep
