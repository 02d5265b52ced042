#pragma once

#include <cstdint>

#include "worker/comm/collectives.h"

namespace lockstep {

// float32 to and from the 16-bit formats of Wire: IEEE 754 binary16 (kF16: 5 bits of exponent, 10 of fraction) and
// bfloat16 (kBF16: 8 and 7). Rounded to the nearest, to even where two are; subnormals too. A finite value stays
// finite: what is beyond the largest becomes the largest, ±65504 and ±3.39e38. Infinities stay infinite; NaN stays NaN
// and is quiet. Whatever was decoded encodes to the same bits again.
//
// The same bits on every processor (but for which NaN the sum of two is). Arrays do not overlap and are aligned to
// their type.
struct HalfFormat {
  void (*encode)(const float* from, int64_t count, uint16_t* to);
  void (*decode)(const uint16_t* from, int64_t count, float* to);
  // into[i] += what from[i] stands for.
  void (*decode_and_add)(const uint16_t* from, int64_t count, float* into);
  // Makes each value what the other side decodes.
  void (*round)(float* values, int64_t count);
};

// The fastest for this processor. `wire` is not kExact.
const HalfFormat& HalfFormatOf(Wire wire);
// Plain loops, for any.
const HalfFormat& PlainHalfFormatOf(Wire wire);

}  // namespace lockstep
