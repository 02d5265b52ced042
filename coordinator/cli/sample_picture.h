#pragma once

#include <cstddef>
#include <string>

#include "absl/types/span.h"
#include "common/data/dataset.h"

namespace lockstep {

const char* ElementTypeName(ElementType type);
bool IsFloating(ElementType type);
// Element `index` of an array as it lies in a dataset.
double ElementAt(ElementType type, absl::Span<const std::byte> array, int64_t index);

// An image, H×W or 1×H×W of at most 100 columns, as characters from dark to bright between its own extremes, a line a
// row. Empty: no such image.
std::string SamplePicture(const ArraySpec& spec, absl::Span<const std::byte> array);

}  // namespace lockstep
