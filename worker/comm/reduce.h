#pragma once

#include <cstddef>
#include <cstdint>

#include "worker/comm/collectives.h"

namespace lockstep {

// into[i] = into[i] op from[i]. The spans do not overlap and are aligned to their type. Integer sums wrap; a minimum or
// maximum with a NaN is NaN.
void Reduce(std::byte* into, const std::byte* from, int64_t count, DType dtype, ReduceOp op);

}  // namespace lockstep
