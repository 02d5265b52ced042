#pragma once

#include <deque>
#include <memory>

#include "common/base/mutex.h"
#include "coordinator/service/core.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "lockstep/control.pb.h"

namespace lockstep {

// A worker's stream, and the core's way to the worker. Deletes itself once gRPC is through with it.
class AttendReactor : public grpc::ServerBidiReactor<WorkerMessage, CoordinatorMessage>, public WorkerLink {
 public:
  // `refused`: not OK ends the stream at once with it.
  AttendReactor(grpc::CallbackServerContext* context, Core* core, const grpc::Status& refused);

  void Send(std::shared_ptr<const CoordinatorMessage> message) override;
  void Drop() override { context_->TryCancel(); }

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone() override { delete this; }

 private:
  // A worker that does not read so many is not there any more.
  static constexpr size_t kMaxOutgoing = 1024;

  absl::StatusOr<bool> Take();
  // Ends the stream once what waits is written.
  void Close(const grpc::Status& status);
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  grpc::CallbackServerContext* const context_;
  Core* const core_;
  WorkerMessage incoming_;
  int rank_ = -1;  // of reads alone; -1: has not said

  Mutex mutex_;
  std::deque<std::shared_ptr<const CoordinatorMessage>> outgoing_ ABSL_GUARDED_BY(mutex_);  // the first: being written
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep
