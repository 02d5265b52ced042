#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "lockstep/telemetry.pb.h"

namespace lockstep {

// Step records on their way from the trainer to the reporter thread: one thread puts in, one takes out, nobody waits.
// Records are swapped in and out, so that slots and batches hand the same memory round and round.
class ReportRing {
 public:
  // `capacity`: a power of two.
  explicit ReportRing(int capacity) : slots_(capacity) {}

  // Trainer. `record` gets some older record's memory. Full: dropped and counted.
  void Put(StepRecord* record);
  // Reporter. Moves records into `batch` until there is none left or the batch has grown past `most_bytes`, and sets
  // its `dropped`. False: nothing was moved.
  bool TakeInto(StepBatch* batch, int64_t most_bytes);

 private:
  StepRecord& At(uint64_t position) { return slots_[position & (slots_.size() - 1)]; }

  std::vector<StepRecord> slots_;
  std::atomic<uint64_t> put_{0}, taken_{0};
  std::atomic<int64_t> dropped_{0};
};

}  // namespace lockstep
