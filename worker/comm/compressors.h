#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "worker/comm/compression.h"
#include "worker/comm/rank_state.h"

// Inside worker/comm: the compressors behind NewCompressor that hold something back, and what they share.
namespace lockstep {

// The largest magnitudes of a range, as indices and values (topk.cc).
std::unique_ptr<Compressor> NewTopK(double ratio, int64_t elements);
// Matrices as products of two thin ones, the rest exact (powersgd.cc).
std::unique_ptr<Compressor> NewPowerSgd(const CompressionOptions& options, int64_t elements,
                                        const std::vector<GradientMatrix>& matrices);

// What a rank has not sent yet, by element of the flat array. The communication thread and the trainer may each be at
// elements of their own.
class Residual {
 public:
  explicit Residual(int64_t elements) : values_(elements) {}
  float* at(int64_t first) { return values_.data() + first; }
  // AllReduce is about to hold something back; the communication thread.
  void Use() { used_.store(true, std::memory_order_relaxed); }
  // The trainer.
  void Release(absl::Span<float> gradients, int64_t first);
  RankState state() { return {"residual", absl::MakeSpan(values_), RankState::Share::kSum}; }

 private:
  std::vector<float> values_;
  std::atomic<bool> used_{false};  // something was held back since released_ was counted from 0
  int64_t released_ = 0;           // the trainer's: elements given back since then; all of them: nothing is left
};

}  // namespace lockstep
