#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "worker/comm/collectives.h"

namespace lockstep {

// into[i] = into[i] op from[i]. The spans do not overlap and are aligned to their type. Integer sums wrap; a minimum or
// maximum with a NaN is NaN.
void Reduce(std::byte* into, const std::byte* from, int64_t count, DType dtype, ReduceOp op);

// into[i] = sources[0][first + i] + sources[1][first + i] + …, added in this order. `into` may be sources[k] + first,
// or overlaps none of them.
void AddUp(absl::Span<const float* const> sources, int64_t first, int64_t count, float* into);

}  // namespace lockstep
