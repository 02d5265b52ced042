#pragma once

#include <torch/types.h>

#include <vector>

#include "absl/status/status.h"
#include "worker/comm/comm_thread.h"
#include "worker/model/model.h"

namespace lockstep {

// Floating-point buffers (BatchNorm's running statistics) are each rank's own during a forward pass; after it, their
// average over the ranks, weighted by samples, through one all-reduce of all of them. Integer buffers (BatchNorm's
// count of batches) grow alike on every rank, but for one that had no samples: then all take the largest. Trainer's
// thread alone.
class BufferAverage {
 public:
  // `comm` null: alone, and all calls do nothing.
  BufferAverage(const Network& network, CommThread* comm);

  // After forward. `share`: this rank's samples over all ranks'. `some_idle`: some rank has no samples at this step,
  // the same on all ranks.
  void Start(double share, bool some_idle);
  // Waits for them, and puts them back.
  absl::Status Finish();

 private:
  CommThread* const comm_;
  std::vector<torch::Tensor> floats_, integers_;
  torch::Tensor packed_floats_, packed_integers_;  // in host memory
  bool some_idle_ = false;
  int64_t floats_number_ = 0, integers_number_ = 0;  // of the operations
};

}  // namespace lockstep
