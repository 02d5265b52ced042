#include "common/base/stable_random.h"

#include <cmath>

namespace lockstep {
namespace {

constexpr uint32_t kMul0 = 0xD2511F53, kMul1 = 0xCD9E8D57, kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;

// SplitMix64's finaliser (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
uint64_t Finalize(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

}  // namespace

std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{kMul0} * c[0], p1 = uint64_t{kMul1} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(p0)};
    k[0] += kWeyl0;
    k[1] += kWeyl1;
  }
  return c;
}

uint64_t Mix(std::initializer_list<uint64_t> parts) {
  uint64_t x = 0x6C6F636B73746570;  // "lockstep"
  for (uint64_t part : parts) x = Finalize(x + 0x9E3779B97F4A7C15 + Finalize(part + 0x9E3779B97F4A7C15));
  return x;
}

uint32_t StableRandom::Next32() {
  if (used_ == 4) {
    numbers_ = Philox({static_cast<uint32_t>(block_), static_cast<uint32_t>(block_ >> 32), 0, 0},
                      {static_cast<uint32_t>(key_), static_cast<uint32_t>(key_ >> 32)});
    ++block_;
    used_ = 0;
  }
  return numbers_[used_++];
}

uint64_t StableRandom::Next64() {
  const uint64_t low = Next32();
  return low | uint64_t{Next32()} << 32;
}

double StableRandom::Uniform() { return static_cast<double>(Next64() >> 11) * 0x1p-53; }

uint64_t StableRandom::Below(uint64_t bound) {
  // Numbers under 2^64 mod bound are drawn again, so that every remainder is as likely.
  const uint64_t reject = (0 - bound) % bound;
  uint64_t x;
  do x = Next64();
  while (x < reject);
  return x % bound;
}

double StableRandom::Normal() {
  const double u = 1.0 - Uniform();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * M_PI * Uniform());
}

}  // namespace lockstep
