#include "common/data/plan.h"

#include <algorithm>

#include "common/base/stable_random.h"

namespace lockstep {
namespace {

// What a key is for; the first part of every Mix here.
constexpr uint64_t kOrder = 0x6F72646572, kRound = 0x726F756E64, kUsed = 0x75736564;  // "order", "round", "used"

// MurmurHash3's 64-bit finaliser (Austin Appleby, public domain).
uint64_t Scramble(uint64_t x) {
  x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCD;
  x = (x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53;
  return x ^ (x >> 33);
}

// The first of `count` positions that belongs to `rank`.
int64_t ShareBegin(int64_t count, int64_t rank, int64_t world) {
  // count · rank / world without the product, which may not fit.
  return count / world * rank + count % world * rank / world;
}

}  // namespace

Permutation::Permutation(uint64_t n, uint64_t key) : n_(n) {
  half_bits_ = 0;
  while (half_bits_ < 32 && (n - 1) >> (2 * half_bits_) != 0) ++half_bits_;
  uint64_t round = 0;
  for (uint64_t& k : keys_) k = Mix({kRound, key, round++});
}

uint64_t Permutation::At(uint64_t position) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t x = position;
  do {
    uint64_t left = x >> half_bits_, right = x & mask;
    for (uint64_t key : keys_) {
      const uint64_t next = left ^ (Scramble(right + key) & mask);
      left = right;
      right = next;
    }
    x = left << half_bits_ | right;
  } while (x >= n_);
  return x;
}

MinibatchPlan::MinibatchPlan(int64_t samples, int64_t global_batch, uint64_t seed, bool shuffle)
    : samples_(samples),
      global_batch_(global_batch),
      steps_per_epoch_((samples - 1) / global_batch + 1),
      seed_(seed),
      shuffle_(shuffle) {}

int32_t MinibatchPlan::EpochOf(int64_t step) const { return static_cast<int32_t>((step - 1) / steps_per_epoch_); }

int64_t MinibatchPlan::EpochStepOf(int64_t step) const { return (step - 1) % steps_per_epoch_ + 1; }

int64_t MinibatchPlan::SamplesAt(int64_t step) const {
  return IsLastOfEpoch(step) ? samples_ - (steps_per_epoch_ - 1) * global_batch_ : global_batch_;
}

std::vector<int64_t> MinibatchPlan::Slice(int64_t step, int rank, int world) const {
  const Range share = ShareOf(SamplesAt(step), rank, world);
  const int64_t first = (EpochStepOf(step) - 1) * global_batch_;
  std::vector<int64_t> ids;
  ids.reserve(share.end - share.begin);
  const Permutation order(samples_, Mix({kOrder, seed_, static_cast<uint64_t>(EpochOf(step))}));
  for (int64_t i = first + share.begin; i < first + share.end; ++i) {
    ids.push_back(shuffle_ ? static_cast<int64_t>(order.At(i)) : i);
  }
  return ids;
}

Range ShareOf(int64_t samples, int rank, int world) {
  return {ShareBegin(samples, rank, world), ShareBegin(samples, int64_t{rank} + 1, world)};
}

uint64_t SampleFingerprint(int32_t epoch, int64_t sample) {
  return Mix({kUsed, static_cast<uint64_t>(epoch), static_cast<uint64_t>(sample)});
}

uint64_t EpochFingerprint(int32_t epoch, int64_t samples) {
  uint64_t sum = 0;
  for (int64_t sample = 0; sample < samples; ++sample) sum += SampleFingerprint(epoch, sample);
  return sum;
}

}  // namespace lockstep
