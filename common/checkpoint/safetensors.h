#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep {

// The safetensors format: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}},
// then the tensors' bytes, contiguous. `data_offsets` count from the end of the header.
struct TensorInfo {
  std::string name;
  std::string dtype;  // F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL
  std::vector<int64_t> shape;
  int64_t begin = 0, end = 0;  // bytes, from the start of the data
};

// 0: no such dtype.
int DTypeSize(absl::string_view dtype);

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
  int64_t data_offset = 0;  // of the first tensor's bytes in the file
  int64_t data_bytes = 0;
};

// Lays tensors out in the given order, fills in begin and end, and returns the bytes that stand before the data,
// padded with spaces to a multiple of 8. InvalidArgument: unknown dtype, negative size, a name twice.
absl::StatusOr<std::string> MakeSafetensorsHeader(std::vector<TensorInfo>* tensors,
                                                  const std::map<std::string, std::string>& metadata);

// Everything is checked: header length against `file_bytes` and a cap of 100 MB, JSON, each field's type, dtype,
// sizes without overflow, offsets in order, contiguous, from 0 to the file's end. `prefix` holds the file's beginning,
// or all of it. InvalidArgument names what and where. OutOfRange: `prefix` is shorter than 8 bytes plus the header.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view prefix, int64_t file_bytes);

// A whole file in memory. Movable; `data` of a tensor stays valid as long as this.
struct SafetensorsFile {
  SafetensorsHeader header;
  std::string bytes;
  absl::string_view data(const TensorInfo& tensor) const {
    return absl::string_view(bytes).substr(header.data_offset + tensor.begin, tensor.end - tensor.begin);
  }
  const TensorInfo* Find(absl::string_view name) const;
};
absl::StatusOr<SafetensorsFile> ReadSafetensors(const std::string& path);
absl::StatusOr<SafetensorsFile> ParseSafetensors(std::string bytes);

}  // namespace lockstep
