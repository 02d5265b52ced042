#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/data/dataset.h"

namespace lockstep {

// The IDX format, in which MNIST was published (LeCun, Cortes, Burges). Big-endian throughout:
//
//   0  00 00     always
//   2  TYPE      08 u8 · 09 i8 · 0B i16 · 0C i32 · 0D f32 · 0E f64
//   3  RANK      number of dimensions, at least 1; the first one is the number of samples
//   4  RANK × u32 the dimensions, each at least 1
//      the values, the last dimension running fastest, and nothing after them
struct IdxArray {
  ElementType type = ElementType::kU8;
  std::vector<int64_t> dims;
  std::unique_ptr<std::byte[]> values;  // in the machine's byte order; aligned for any type
  int64_t size_bytes = 0;
};

// Reads all of a file, plain or gzip. InvalidArgument, in one line with path and byte, for anything that is not exactly
// such a file; memory is not taken for values that the file cannot hold.
absl::StatusOr<IdxArray> ReadIdx(const std::string& path);

// "60000×28×28"
std::string DimsText(const std::vector<int64_t>& dims);

// Header of an IDX file; the dimensions fit in 32 bits.
std::string IdxHeader(uint8_t type_code, const std::vector<int64_t>& dims);
constexpr uint8_t kIdxU8 = 0x08;

}  // namespace lockstep
