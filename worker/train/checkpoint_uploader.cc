#include "worker/train/checkpoint_uploader.h"

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"

namespace lockstep {

CheckpointUploader::~CheckpointUploader() {
  if (thread_.joinable()) thread_.join();
}

absl::Status CheckpointUploader::WaitIdle() {
  MutexLock lock(&mutex_);
  while (busy_) {
    const absl::Duration left = stall_ - absl::Nanoseconds(MonotonicNanos() - moved_ns_);
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(
          absl::StrCat("the coordinator has not taken any of the checkpoint for ", absl::FormatDuration(stall_)));
    }
    idle_.WaitFor(&mutex_, left);
  }
  return absl::OkStatus();
}

void CheckpointUploader::Start(const CheckpointChunk::Header& header, Snapshot* snapshot) {
  if (thread_.joinable()) thread_.join();
  {
    MutexLock lock(&mutex_);
    busy_ = true;
    moved_ns_ = MonotonicNanos();
  }
  thread_ = std::thread([this, header, snapshot] { Upload(header, snapshot); });
}

absl::Status CheckpointUploader::last() const {
  MutexLock lock(&mutex_);
  return last_;
}

void CheckpointUploader::Upload(const CheckpointChunk::Header& header, Snapshot* snapshot) {
  snapshot->Rewind();
  const absl::StatusOr<CheckpointCommitted> committed =
      link_->UploadCheckpoint(header, [this, snapshot]() -> absl::StatusOr<absl::string_view> {
        Moved();
        return snapshot->NextChunk();
      });
  if (!committed.ok()) {
    log_(absl::StrCat("the checkpoint of step ", header.cursor().step(),
                      " was not written: ", committed.status().message()));
  }
  MutexLock lock(&mutex_);
  last_ = committed.status();
  busy_ = false;
  idle_.NotifyAll();
}

void CheckpointUploader::Moved() {
  MutexLock lock(&mutex_);
  moved_ns_ = MonotonicNanos();
}

}  // namespace lockstep
