#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "worker/comm/comm_thread.h"

namespace lockstep {

// What one rank holds, as far as all ranks have to hold the same bits: XXH3 of its parameters and of its buffers.
struct ReplicaDigest {
  int64_t replica = 0;  // the lowest of the ranks that share the parameters; only that one has hashed them
  uint64_t parameters = 0, buffers = 0;
};

uint64_t HashReplica(absl::Span<const absl::Span<const std::byte>> parts);

// `all`: of every rank, by rank, after step `step`. DataLoss names the ranks that differ from most replicas, or from
// rank 0 where no value has most; NamedRanks has them too.
absl::Status CompareReplicas(absl::Span<const ReplicaDigest> all, int64_t step);

// All ranks call it together, when their replicas have to be equal: after an update that followed a synchronisation,
// before the next. Costs a pass over the parameters and a small all-gather. An error is the same on all ranks, but for
// those of communication.
absl::Status CheckReplicas(const ReplicaDigest& own, int64_t step, int world, CommThread* comm);

}  // namespace lockstep
