#include "worker/comm/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/base/stable_random.h"

namespace lockstep {
namespace {

uint32_t BitsOf(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

float FloatOf(uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The formats by their definition, in numbers instead of bits.
struct Format {
  Wire wire;
  int exponent_bits, fraction_bits;

  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  int exponent(uint16_t half) const { return half >> fraction_bits & ((1 << exponent_bits) - 1); }
  int fraction(uint16_t half) const { return half & ((1 << fraction_bits) - 1); }
  bool special(uint16_t half) const { return exponent(half) == (1 << exponent_bits) - 1; }
  bool nan(uint16_t half) const { return special(half) && fraction(half) != 0; }
  uint16_t infinity() const { return static_cast<uint16_t>(((1 << exponent_bits) - 1) << fraction_bits); }
  uint16_t quiet() const { return static_cast<uint16_t>(1 << (fraction_bits - 1)); }

  double Value(uint16_t half) const {
    const double sign = half & 0x8000 ? -1 : 1;
    if (special(half)) return sign * std::numeric_limits<double>::infinity();
    const double fraction_part = std::ldexp(fraction(half), -fraction_bits);
    if (exponent(half) == 0) return sign * std::ldexp(fraction_part, 1 - bias());
    return sign * std::ldexp(1 + fraction_part, exponent(half) - bias());
  }

  // The nearest by search among the magnitudes, which ascend with their bits; to even where two are as near.
  uint16_t Nearest(float value) const {
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    if (std::isinf(value)) return sign | infinity();
    const double magnitude = std::fabs(static_cast<double>(value));
    int below = 0, above = infinity() - 1;  // the largest finite
    if (magnitude >= Value(static_cast<uint16_t>(above))) return static_cast<uint16_t>(sign | above);
    while (above - below > 1) {
      const int middle = (below + above) / 2;
      (Value(static_cast<uint16_t>(middle)) <= magnitude ? below : above) = middle;
    }
    const double down = magnitude - Value(static_cast<uint16_t>(below));
    const double up = Value(static_cast<uint16_t>(above)) - magnitude;
    const bool up_wins = up < down || (up == down && below % 2 == 1);
    return static_cast<uint16_t>(sign | (up_wins ? above : below));
  }
};

class HalfTest : public testing::TestWithParam<Format> {
 protected:
  const Format& format() const { return GetParam(); }
  std::vector<const HalfFormat*> both() const {
    return {&PlainHalfFormatOf(format().wire), &HalfFormatOf(format().wire)};
  }
  uint16_t Encode(float value) const {
    uint16_t half = 0;
    PlainHalfFormatOf(format().wire).encode(&value, 1, &half);
    return half;
  }
};

std::vector<uint16_t> AllPatterns() {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  return all;
}

// Of every exponent and kind, and those around every 16-bit number and every middle of two.
std::vector<float> ManyFloats(const Format& format) {
  std::vector<float> floats = {0.0F, -0.0F, 65504.0F, 65519.9F, 65520.0F, 1e6F, FloatOf(1), FloatOf(0x7f7fffff)};
  StableRandom random(Mix({41}));
  for (int i = 0; i < 1 << 17; ++i) floats.push_back(FloatOf(random.Next32()));
  for (int half = 0; half < format.infinity(); ++half) {
    const double low = format.Value(static_cast<uint16_t>(half)), high = format.Value(static_cast<uint16_t>(half + 1));
    const auto middle = static_cast<float>(std::isinf(high) ? low * 1.001 : (low + high) / 2);
    for (const float value : {static_cast<float>(low), middle}) {
      floats.insert(floats.end(), {value, std::nextafter(value, 0.0F), std::nextafter(value, 1e38F), -value});
    }
  }
  const float infinity = std::numeric_limits<float>::infinity();
  floats.insert(floats.end(), {infinity, -infinity, FloatOf(0x7f800001), FloatOf(0xffc12345), FloatOf(0x7fffffff)});
  return floats;
}

TEST_P(HalfTest, EveryPatternDecodesToItsNumber) {
  const std::vector<uint16_t> all = AllPatterns();
  for (const HalfFormat* const way : both()) {
    std::vector<float> decoded(all.size());
    way->decode(all.data(), 65536, decoded.data());
    for (const uint16_t half : all) {
      if (format().nan(half)) {
        ASSERT_TRUE(std::isnan(decoded[half])) << half;
        ASSERT_EQ(std::signbit(decoded[half]), (half & 0x8000) != 0) << half;
      } else {
        ASSERT_EQ(BitsOf(decoded[half]), BitsOf(static_cast<float>(format().Value(half)))) << half;
      }
    }
  }
}

TEST_P(HalfTest, WhatWasDecodedEncodesToTheSameBits) {
  const std::vector<uint16_t> all = AllPatterns();
  for (const HalfFormat* const way : both()) {
    std::vector<float> decoded(all.size());
    std::vector<uint16_t> again(all.size());
    way->decode(all.data(), 65536, decoded.data());
    way->encode(decoded.data(), 65536, again.data());
    for (const uint16_t half : all) {
      ASSERT_EQ(again[half], format().nan(half) ? half | format().quiet() : half) << half;
    }
  }
}

TEST_P(HalfTest, EveryFloatGoesToTheNearestAndWhatIsFiniteStaysFinite) {
  const std::vector<float> floats = ManyFloats(format());
  for (const HalfFormat* const way : both()) {
    std::vector<uint16_t> encoded(floats.size());
    way->encode(floats.data(), static_cast<int64_t>(floats.size()), encoded.data());
    for (size_t i = 0; i < floats.size(); ++i) {
      if (std::isnan(floats[i])) {
        ASSERT_TRUE(format().nan(encoded[i])) << i;
        ASSERT_NE(encoded[i] & format().quiet(), 0) << i;
      } else {
        ASSERT_EQ(encoded[i], format().Nearest(floats[i])) << floats[i] << ", bits " << BitsOf(floats[i]);
        ASSERT_EQ(std::isinf(floats[i]), format().special(encoded[i])) << floats[i];
      }
    }
  }
}

TEST_P(HalfTest, AllWaysOfComputingGiveTheSameBitsWhereverTheyBegin) {
  const std::vector<float> floats = ManyFloats(format());
  const HalfFormat &plain = *both()[0], &fast = *both()[1];
  for (const int64_t begin : {0, 1, 3, 7}) {
    const int64_t count = static_cast<int64_t>(floats.size()) - begin;
    std::vector<uint16_t> half(count), fast_half(count);
    plain.encode(floats.data() + begin, count, half.data());
    fast.encode(floats.data() + begin, count, fast_half.data());
    ASSERT_TRUE(half == fast_half);
    std::vector<float> whole(count), fast_whole(count);
    plain.decode(half.data(), count, whole.data());
    fast.decode(half.data(), count, fast_whole.data());
    ASSERT_EQ(std::memcmp(whole.data(), fast_whole.data(), count * sizeof(float)), 0);
    std::vector<float> rounded(floats.begin() + begin, floats.end()), fast_rounded = rounded;
    plain.round(rounded.data(), count);
    fast.round(fast_rounded.data(), count);
    ASSERT_EQ(std::memcmp(rounded.data(), whole.data(), count * sizeof(float)), 0);
    ASSERT_EQ(std::memcmp(fast_rounded.data(), whole.data(), count * sizeof(float)), 0);
  }
}

TEST_P(HalfTest, WhatIsDecodedAndAddedIsAdded) {
  std::vector<float> values(1003), expected(1003);
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::ldexp(static_cast<float>(i) - 500.0F, -7);
  std::vector<uint16_t> half(values.size());
  PlainHalfFormatOf(format().wire).encode(values.data(), 1003, half.data());
  for (size_t i = 0; i < values.size(); ++i) expected[i] = 3.0F + static_cast<float>(format().Value(half[i]));
  for (const HalfFormat* const way : both()) {
    std::vector<float> sum(values.size(), 3.0F);
    way->decode_and_add(half.data(), 1003, sum.data());
    EXPECT_TRUE(sum == expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, HalfTest, testing::Values(Format{Wire::kF16, 5, 10}, Format{Wire::kBF16, 8, 7}),
                         [](const auto& info) { return info.param.wire == Wire::kF16 ? "F16" : "BF16"; });

}  // namespace
}  // namespace lockstep
