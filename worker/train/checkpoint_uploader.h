#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "worker/coordinator_client/client.h"
#include "worker/train/snapshot.h"

namespace lockstep {

// Sends snapshots to the coordinator behind the trainer's back (rank 0), one at a time on a thread of its own.
// Start and WaitIdle are called by one thread at a time.
class CheckpointUploader {
 public:
  // `stall`: how long an upload may stand still. `log` gets a line when one has failed, from the thread.
  CheckpointUploader(CoordinatorLink* link, absl::Duration stall, std::function<void(const std::string&)> log)
      : link_(link), stall_(stall), log_(std::move(log)) {}
  // Waits for the upload under way.
  ~CheckpointUploader();

  // Until none is under way. DeadlineExceeded: it has stood still for too long; it is then still under way.
  absl::Status WaitIdle();
  // Only when idle. `snapshot` stays as it is until idle again.
  void Start(const CheckpointChunk::Header& header, Snapshot* snapshot);
  // How the last one ended; OK if there was none. Only when idle.
  absl::Status last() const;

 private:
  void Upload(const CheckpointChunk::Header& header, Snapshot* snapshot);
  void Moved();

  CoordinatorLink* const link_;
  const absl::Duration stall_;
  const std::function<void(const std::string&)> log_;
  mutable Mutex mutex_;
  CondVar idle_;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t moved_ns_ ABSL_GUARDED_BY(mutex_) = 0;  // MonotonicNanos when it last went on
  absl::Status last_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace lockstep
