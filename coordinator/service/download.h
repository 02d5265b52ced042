#pragma once

#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/checkpoint/checkpoint.h"
#include "lockstep/control.pb.h"

namespace lockstep {

// The checkpoint that an incarnation starts from, chunk by chunk: a header, then the tensors' files. Waits for the
// disk; not thread-safe.
class CheckpointDownload {
 public:
  // NotFound: the run starts afresh. Outlived by `from`.
  CheckpointDownload(int incarnation, const std::optional<FoundCheckpoint>* from);
  // False: that was all. DataLoss: a file is not as it was when the run started.
  absl::StatusOr<bool> Next(CheckpointChunk* chunk);

 private:
  struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  absl::Status Begin(CheckpointChunk::Header* header);

  const int incarnation_;
  const std::optional<FoundCheckpoint>* const from_;
  bool begun_ = false;
  CheckpointChunk::Header header_;
  int file_ = -1;
  int64_t left_ = 0;
  std::unique_ptr<std::FILE, Closer> open_;
};

}  // namespace lockstep
