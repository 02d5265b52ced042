#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/mpi.h"

namespace lockstep {

// One way of all-reducing float32.
class BenchAlgorithm {
 public:
  virtual ~BenchAlgorithm() = default;
  // At least as many floats as the largest call.
  virtual float* buffer() = 0;
  // Sums the first `count` floats of all ranks' buffers, in place. DeadlineExceeded.
  virtual absl::Status Run(int64_t count) = 0;
};

// What algorithms are made from. The session and the buffer outlive them.
struct BenchGround {
  MpiSession* session = nullptr;
  MpiOptions options;
  absl::Duration timeout;                // of a call
  std::vector<float>* buffer = nullptr;  // used by all that can work anywhere, one at a time; as large as any call
};

// Polls as the communication thread does while the trainer stands still for it. DeadlineExceeded: the operation is then
// never freed, since peers may still write to its data, which has to live as long.
absl::Status Drive(std::unique_ptr<Operation> operation, absl::Duration timeout);

struct BenchAlgorithmKind {
  std::string name;
  // Whether it is there for such a number of hosts when nobody named it; null: never.
  std::function<bool(int hosts)> usual;
  // All ranks call it together. FailedPrecondition, ResourceExhausted, Unavailable: not to be had here, says why.
  std::function<absl::StatusOr<std::unique_ptr<BenchAlgorithm>>(const BenchGround& ground)> make;
};

// The reference that every other is measured against: the library's own, blocking, which has no deadline of its own.
BenchAlgorithmKind ReferenceAlgorithm();
// All others, in the order of the table.
std::vector<BenchAlgorithmKind> BenchAlgorithms();
// Those of them with these names. InvalidArgument: no such name.
absl::StatusOr<std::vector<BenchAlgorithmKind>> NamedAlgorithms(const std::vector<std::string>& names);

}  // namespace lockstep
