#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/file.h"

namespace lockstep {

struct Scalar {
  std::string tag;
  double value;
};

// A TensorBoard event file: TFRecords (length, masked CRC32C, Event message, masked CRC32C). Every Write is one record,
// handed to the system at once, so that TensorBoard sees it and a killed coordinator leaves whole records. After an
// error the file ends there: each later Write returns it again. Not thread-safe.
class EventFile {
 public:
  // Creates events.out.tfevents.<seconds>.<host>.<suffix> in `folder`, and that where it is missing.
  static absl::StatusOr<std::unique_ptr<EventFile>> Create(FileSystem* files, const std::string& folder, double time,
                                                           const std::string& host, const std::string& suffix);
  ~EventFile();  // closes
  absl::Status Write(double time, int64_t step, const std::vector<Scalar>& scalars);
  // On the disk afterwards; nothing can be written any more.
  absl::Status Close();

 private:
  explicit EventFile(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  absl::Status WriteRecord(absl::string_view event);

  const std::unique_ptr<WritableFile> file_;
  absl::Status error_;
  bool closed_ = false;
};

// CRC-32C (Castagnoli), RFC 3720 appendix B.4.
uint32_t Crc32c(absl::string_view data);

}  // namespace lockstep
