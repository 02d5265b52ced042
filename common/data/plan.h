#pragma once

#include <cstdint>
#include <vector>

namespace lockstep {

// A keyed bijection over [0, n): a Feistel network over the next even power of two with cycle walking (Black and
// Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). O(1) memory; At costs about 50 ns.
class Permutation {
 public:
  Permutation(uint64_t n, uint64_t key);
  // `position` in [0, n).
  uint64_t At(uint64_t position) const;

 private:
  uint64_t n_;
  int half_bits_;
  uint64_t keys_[6];
};

// Which samples a rank takes at a step; a pure function, the same in the coordinator and in every worker.
//
// Steps count from 1 through all epochs. Epoch e's order is a permutation keyed by (seed, e). Its s-th step takes
// positions [s·B, min((s+1)·B, n)), so the last step of an epoch may be short and every sample is used exactly once.
// Rank r of w takes the slice [count·r/w, count·(r+1)/w) of a step's `count` positions: sizes differ by at most one,
// and may be 0 in a short step.
class MinibatchPlan {
 public:
  // All positive. `shuffle` false: the file's order in every epoch.
  MinibatchPlan(int64_t samples, int64_t global_batch, uint64_t seed, bool shuffle);

  int64_t steps_per_epoch() const { return steps_per_epoch_; }
  int64_t samples() const { return samples_; }
  int32_t EpochOf(int64_t step) const;      // from 0
  int64_t EpochStepOf(int64_t step) const;  // 1 … steps_per_epoch
  bool IsLastOfEpoch(int64_t step) const { return EpochStepOf(step) == steps_per_epoch_; }
  int64_t SamplesAt(int64_t step) const;  // over all ranks

  // The ids of rank `rank` of `world` at `step`, in order.
  std::vector<int64_t> Slice(int64_t step, int rank, int world) const;

 private:
  int64_t samples_, global_batch_, steps_per_epoch_;
  uint64_t seed_;
  bool shuffle_;
};

// Contiguous share of validation samples: ids [begin, end) of rank `rank` of `world`.
struct Range {
  int64_t begin = 0, end = 0;
};
Range ShareOf(int64_t samples, int rank, int world);

// A multiset's fingerprint is the sum of its elements' hashes modulo 2^64: order and place do not matter, every
// missing, double or foreign sample changes it (but for one chance in 2^64). Keyed by the epoch.
uint64_t SampleFingerprint(int32_t epoch, int64_t sample);
// Of every id in [0, samples) once.
uint64_t EpochFingerprint(int32_t epoch, int64_t samples);

}  // namespace lockstep
