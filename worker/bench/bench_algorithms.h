#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/comm/mpi.h"

namespace lockstep {

// One way of all-reducing, with a buffer of its own.
class BenchAlgorithm {
 public:
  virtual ~BenchAlgorithm() = default;
  virtual const std::string& name() const = 0;
  // At least as many floats as the largest call.
  virtual float* buffer() = 0;
  // Sums the first `count` floats of all ranks' buffers, in place. DeadlineExceeded.
  virtual absl::Status Run(int64_t count) = 0;
};

// The reference that every other is measured against: the library's own, blocking.
constexpr char kReference[] = "MPI_Allreduce";
// All others, in the order of the table.
std::vector<std::string> BenchAlgorithmNames();

// All ranks call it together, with the same. InvalidArgument: no such name. FailedPrecondition, ResourceExhausted,
// Unavailable: not to be had here, says why.
absl::StatusOr<std::unique_ptr<BenchAlgorithm>> NewBenchAlgorithm(const std::string& name, MpiSession* session,
                                                                  const MpiOptions& options, int64_t most_floats,
                                                                  absl::Duration timeout);

}  // namespace lockstep
