#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "common/data/decode.h"
#include "lockstep/run_config.pb.h"
#include "worker/model/model.h"

namespace lockstep {

// What a process that trains needs, in bytes, beside the parameters and what an update keeps of them.
struct MemoryNeeds {
  int64_t process = 0;      // LibTorch and its libraries themselves
  int64_t activations = 0;  // the most that the passes over a batch hold at once
  int64_t input = 0;        // a batch as the network takes it
  int64_t addresses = 0;    // of virtual memory, all in all
};

// By trying: from the forward and backward pass of two small batches follows what one of `samples` holds. Takes some
// seconds, whatever `samples`. Leaves gradients in `network`.
absl::StatusOr<MemoryNeeds> MeasureMemory(int64_t samples, const Decoder& decoder, Network* network);

}  // namespace lockstep
