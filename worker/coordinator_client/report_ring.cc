#include "worker/coordinator_client/report_ring.h"

namespace lockstep {

void ReportRing::Put(StepRecord* record) {
  const uint64_t put = put_.load(std::memory_order_relaxed);
  if (put - taken_.load(std::memory_order_acquire) == slots_.size()) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  At(put).Swap(record);
  put_.store(put + 1, std::memory_order_release);
}

bool ReportRing::TakeInto(StepBatch* batch, int64_t most_bytes) {
  const uint64_t end = put_.load(std::memory_order_acquire);
  uint64_t taken = taken_.load(std::memory_order_relaxed);
  const uint64_t begin = taken;
  int64_t bytes = 0;
  while (taken != end && bytes < most_bytes) {
    StepRecord* const into = batch->add_steps();
    into->Swap(&At(taken));
    bytes += static_cast<int64_t>(into->ByteSizeLong());
    taken_.store(++taken, std::memory_order_release);
  }
  batch->set_dropped(dropped_.load(std::memory_order_relaxed));
  return taken != begin;
}

}  // namespace lockstep
