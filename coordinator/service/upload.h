#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/checkpoint/checkpoint.h"
#include "coordinator/service/core.h"
#include "lockstep/control.pb.h"

namespace lockstep {

// A checkpoint on its way from rank 0 to the disk, chunk by chunk. Destroyed before Finish: nothing of it is left.
// Errors as UploadCheckpoint's in control.proto. Waits for the disk; not thread-safe.
class CheckpointUpload {
 public:
  CheckpointUpload(Core* core, FileSystem* files, Clock* clock, std::string checkpoints_folder);
  ~CheckpointUpload();

  absl::Status Take(const CheckpointChunk& chunk);
  // All has come: commits, points `latest` and `best`, journals, prunes.
  absl::StatusOr<CheckpointCommitted> Finish();

 private:
  absl::Status Begin(const CheckpointChunk::Header& header);
  absl::Status TakeData(absl::string_view data);
  // Begins the files from the current one on that have no byte left to come.
  absl::Status Advance();
  absl::Status Link();
  // UNAVAILABLE for the worker, and a warning for people.
  absl::Status DiskProblem(const absl::Status& status);

  Core* const core_;
  FileSystem* const files_;
  Clock* const clock_;
  const std::string folder_;
  CheckpointChunk::Header header_;
  CheckpointState state_;
  bool begun_ = false;
  absl::Duration begun_at_;
  std::unique_ptr<CheckpointWriter> writer_;
  int file_ = -1;     // of the header's; -1: none begun
  int64_t left_ = 0;  // bytes of it still to come
};

}  // namespace lockstep
