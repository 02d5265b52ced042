#include "worker/comm/half.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace lockstep {
namespace {

constexpr uint32_t kInfinity = 0x7f800000;  // float32's; what is above, without its sign, is NaN

inline uint32_t BitsOf(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float FloatOf(uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

struct F16 {
  static constexpr uint32_t kLargest = 0x477fe000;      // 65504
  static constexpr uint32_t kLeastNormal = 0x38800000;  // 2^-14
  static constexpr uint32_t kBias = (127 - 15) << 23;   // between the exponents

  static inline uint16_t Encode(float value) {
    const uint32_t bits = BitsOf(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > kInfinity) return static_cast<uint16_t>(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude == kInfinity) return static_cast<uint16_t>(sign | 0x7c00);
    const uint32_t finite = std::min(magnitude, kLargest);
    // Subnormals are multiples of 2^-24, which is what a float of [0.5, 1) ends with: the addition rounds.
    const uint32_t subnormal = BitsOf(FloatOf(std::min(magnitude, kLeastNormal)) + 0.5F) - BitsOf(0.5F);
    const uint32_t normal = (finite + 0xfff + (finite >> 13 & 1) - kBias) >> 13;
    return static_cast<uint16_t>(sign | (magnitude < kLeastNormal ? subnormal : normal));
  }

  static inline float Decode(uint16_t half) {
    const uint32_t sign = (half & 0x8000U) << 16, exponent = half >> 10 & 31, fraction = half & 0x3ffU;
    const uint32_t special = kInfinity | fraction << 13 | (fraction != 0 ? 0x400000 : 0);
    const uint32_t subnormal = BitsOf(static_cast<float>(static_cast<int32_t>(fraction)) * 0x1p-24F);
    const uint32_t normal = ((half & 0x7fffU) << 13) + kBias;
    return FloatOf(sign | (exponent == 31 ? special : exponent == 0 ? subnormal : normal));
  }
};

struct BF16 {
  static constexpr uint32_t kLargest = 0x7f7f;

  static inline uint16_t Encode(float value) {
    const uint32_t bits = BitsOf(value), magnitude = bits & 0x7fffffff;
    const uint32_t special = magnitude >> 16 | (magnitude > kInfinity ? 0x40 : 0);
    const uint32_t finite = std::min((magnitude + 0x7fff + (magnitude >> 16 & 1)) >> 16, kLargest);
    return static_cast<uint16_t>((bits >> 16 & 0x8000) | (magnitude >= kInfinity ? special : finite));
  }

  static inline float Decode(uint16_t half) {
    const bool nan = (half & 0x7fffU) > 0x7f80;
    return FloatOf((half | (nan ? 0x40U : 0U)) << 16);
  }
};

// Inlined into functions for other processors than the file's, which the compiler vectorises anew there.
template <typename Format>
[[gnu::always_inline]] inline void Encode(const float* __restrict from, int64_t count, uint16_t* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] = Format::Encode(from[i]);
}

template <typename Format>
[[gnu::always_inline]] inline void Decode(const uint16_t* __restrict from, int64_t count, float* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] = Format::Decode(from[i]);
}

template <typename Format>
[[gnu::always_inline]] inline void DecodeAndAdd(const uint16_t* __restrict from, int64_t count,
                                                float* __restrict into) {
  for (int64_t i = 0; i < count; ++i) into[i] += Format::Decode(from[i]);
}

template <typename Format>
[[gnu::always_inline]] inline void Round(float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = Format::Decode(Format::Encode(values[i]));
}

template <typename Format>
constexpr HalfFormat kPlain = {
    [](const float* from, int64_t count, uint16_t* to) { Encode<Format>(from, count, to); },
    [](const uint16_t* from, int64_t count, float* to) { Decode<Format>(from, count, to); },
    [](const uint16_t* from, int64_t count, float* into) { DecodeAndAdd<Format>(from, count, into); },
    [](float* values, int64_t count) { Round<Format>(values, count); },
};

#if defined(__x86_64__)
#define LOCKSTEP_AVX2 [[gnu::target("avx2,f16c")]]

bool HasAvx2AndF16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

constexpr int64_t kLanes = 8;

// The processor's conversion, but for what is finite and beyond the largest.
LOCKSTEP_AVX2 inline __m128i EncodeLanes(__m256 values) {
  const __m256 largest = _mm256_set1_ps(65504.0F), infinity = _mm256_set1_ps(FloatOf(kInfinity));
  const __m256 magnitudes = _mm256_andnot_ps(_mm256_set1_ps(-0.0F), values);
  // Of two numbers one of which is NaN, both give the second.
  const __m256 clamped = _mm256_min_ps(largest, _mm256_max_ps(_mm256_xor_ps(largest, _mm256_set1_ps(-0.0F)), values));
  const __m256 kept = _mm256_cmp_ps(magnitudes, infinity, _CMP_EQ_OQ);
  return _mm256_cvtps_ph(_mm256_blendv_ps(clamped, values, kept), _MM_FROUND_TO_NEAREST_INT);
}

LOCKSTEP_AVX2 inline __m256 DecodeLanes(const uint16_t* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

LOCKSTEP_AVX2 void EncodeF16(const float* from, int64_t count, uint16_t* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), EncodeLanes(_mm256_loadu_ps(from + i)));
  }
  Encode<F16>(from + i, count - i, to + i);
}

LOCKSTEP_AVX2 void DecodeF16(const uint16_t* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) _mm256_storeu_ps(to + i, DecodeLanes(from + i));
  Decode<F16>(from + i, count - i, to + i);
}

LOCKSTEP_AVX2 void DecodeAndAddF16(const uint16_t* from, int64_t count, float* into) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    _mm256_storeu_ps(into + i, _mm256_add_ps(_mm256_loadu_ps(into + i), DecodeLanes(from + i)));
  }
  DecodeAndAdd<F16>(from + i, count - i, into + i);
}

LOCKSTEP_AVX2 void RoundF16(float* values, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    _mm256_storeu_ps(values + i, _mm256_cvtph_ps(EncodeLanes(_mm256_loadu_ps(values + i))));
  }
  Round<F16>(values + i, count - i);
}

LOCKSTEP_AVX2 void EncodeBF16(const float* from, int64_t count, uint16_t* to) { Encode<BF16>(from, count, to); }
LOCKSTEP_AVX2 void DecodeBF16(const uint16_t* from, int64_t count, float* to) { Decode<BF16>(from, count, to); }
LOCKSTEP_AVX2 void DecodeAndAddBF16(const uint16_t* from, int64_t count, float* into) {
  DecodeAndAdd<BF16>(from, count, into);
}
LOCKSTEP_AVX2 void RoundBF16(float* values, int64_t count) { Round<BF16>(values, count); }

constexpr HalfFormat kAvx2F16 = {EncodeF16, DecodeF16, DecodeAndAddF16, RoundF16};
constexpr HalfFormat kAvx2BF16 = {EncodeBF16, DecodeBF16, DecodeAndAddBF16, RoundBF16};
#endif

}  // namespace

const HalfFormat& PlainHalfFormatOf(Wire wire) { return wire == Wire::kF16 ? kPlain<F16> : kPlain<BF16>; }

const HalfFormat& HalfFormatOf(Wire wire) {
#if defined(__x86_64__)
  static const bool fast = HasAvx2AndF16c();
  if (fast) return wire == Wire::kF16 ? kAvx2F16 : kAvx2BF16;
#endif
  return PlainHalfFormatOf(wire);
}

}  // namespace lockstep
