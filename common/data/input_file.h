#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace lockstep {

// A file read front to back, plain or gzip; which of them, its first two bytes say, not its name. Not thread-safe.
class InputFile {
 public:
  virtual ~InputFile() = default;
  // NotFound, PermissionDenied, or InvalidArgument for what is not a regular file.
  static absl::StatusOr<std::unique_ptr<InputFile>> Open(const std::string& path);

  // Fills `out` with the next `size` bytes and returns `size`, or fewer at the end of the data.
  // InvalidArgument, with the offset in the file, for a gzip stream that is damaged, cut off or followed by other
  // bytes.
  virtual absl::StatusOr<int64_t> Read(std::byte* out, int64_t size) = 0;

  // The data is no longer than this; for gzip a bound that follows from the file's length.
  virtual int64_t MostBytes() const = 0;
};

}  // namespace lockstep
