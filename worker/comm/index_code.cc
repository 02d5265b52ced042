#include "worker/comm/index_code.h"

#include <algorithm>

namespace lockstep {
namespace {

constexpr uint64_t LowMask(int bits) { return (uint64_t{1} << bits) - 1; }

// About log2(bound / count), which makes the code shortest.
int LowBits(int64_t count, int64_t bound) {
  int bits = 0;
  while (count > 0 && bound >> (bits + 1) >= count) ++bits;
  return bits;
}

int64_t BytesOf(int64_t bits) { return (bits + 7) / 8; }

}  // namespace

IndexCode::IndexCode(int64_t count, int64_t bound)
    : count_(count),
      bound_(bound),
      low_bits_(LowBits(count, bound)),
      low_bytes_(BytesOf(count * low_bits_)),
      high_bytes_(count == 0 ? 0 : BytesOf(count + ((bound - 1) >> low_bits_))) {}

void IndexCode::Encode(const uint32_t* indices, std::byte* to) const {
  std::fill(to, to + bytes(), std::byte{0});
  std::byte* const high = to + low_bytes_;
  uint64_t waiting = 0;  // low bits that fill no byte yet
  int waiting_bits = 0;
  for (int64_t i = 0; i < count_; ++i) {
    waiting |= (indices[i] & LowMask(low_bits_)) << waiting_bits;
    for (waiting_bits += low_bits_; waiting_bits >= 8; waiting_bits -= 8, waiting >>= 8) {
      *to++ = static_cast<std::byte>(waiting & 0xff);
    }
    const int64_t one = (indices[i] >> low_bits_) + i;
    high[one / 8] |= std::byte{1} << (one % 8);
  }
  if (waiting_bits > 0) *to = static_cast<std::byte>(waiting);
}

bool IndexCode::Decode(const std::byte* from, uint32_t* indices) const {
  const std::byte* const high = from + low_bytes_;
  int64_t found = 0;
  for (int64_t at = 0; at < high_bytes_; ++at) {
    for (auto ones = static_cast<uint32_t>(high[at]); ones != 0; ones &= ones - 1) {
      if (found == count_) return false;
      const int64_t part = at * 8 + __builtin_ctz(ones) - found;
      indices[found++] = static_cast<uint32_t>(part << low_bits_);
    }
  }
  if (found < count_) return false;
  uint64_t waiting = 0;
  int waiting_bits = 0;
  for (int64_t i = 0; i < count_; ++i) {
    for (; waiting_bits < low_bits_; waiting_bits += 8) waiting |= static_cast<uint64_t>(*from++) << waiting_bits;
    indices[i] |= static_cast<uint32_t>(waiting & LowMask(low_bits_));
    waiting >>= low_bits_;
    waiting_bits -= low_bits_;
  }
  return count_ == 0 || indices[count_ - 1] < bound_;
}

}  // namespace lockstep
