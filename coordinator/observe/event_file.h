#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/file.h"

namespace lockstep {

struct Scalar {
  std::string tag;
  double value;
};

// A TensorBoard event file: TFRecords (length, masked CRC32C, Event message, masked CRC32C). Not thread-safe.
class EventFile {
 public:
  // Creates events.out.tfevents.<seconds>.<host>.<suffix> in `folder`.
  static absl::StatusOr<std::unique_ptr<EventFile>> Create(FileSystem* files, const std::string& folder, double time,
                                                           const std::string& host, const std::string& suffix);
  absl::Status Write(double time, int64_t step, const std::vector<Scalar>& scalars);

 private:
  explicit EventFile(std::unique_ptr<WritableFile> file);
  const std::unique_ptr<WritableFile> file_;
};

// CRC-32C (Castagnoli), RFC 3720 appendix B.4.
uint32_t Crc32c(absl::string_view data);

}  // namespace lockstep
