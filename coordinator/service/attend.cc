#include "coordinator/service/attend.h"

#include <utility>

#include "common/base/status.h"
#include "coordinator/service/auth.h"

namespace lockstep {

AttendReactor::AttendReactor(grpc::CallbackServerContext* context, Core* core, const grpc::Status& refused)
    : context_(context), core_(core) {
  if (refused.ok()) {
    StartRead(&incoming_);
  } else {
    Close(refused);
  }
}

void AttendReactor::Send(std::shared_ptr<const CoordinatorMessage> message) {
  MutexLock lock(&mutex_);
  if (closing_ || broken_) return;
  if (outgoing_.size() >= kMaxOutgoing) {
    broken_ = true;
    context_->TryCancel();
    return;
  }
  outgoing_.push_back(std::move(message));
  Pump();
}

absl::StatusOr<bool> AttendReactor::Take() {
  if (rank_ < 0) {
    RETURN_IF_ERROR(core_->Attach(incoming_.rank(), incoming_.incarnation(), this));
    rank_ = incoming_.rank();
  }
  return core_->Receive(rank_, incoming_);
}

void AttendReactor::OnReadDone(bool ok) {
  absl::StatusOr<bool> more = false;
  if (ok) more = Take();
  if (more.ok() && *more) {
    StartRead(&incoming_);
    return;
  }
  if (rank_ >= 0) core_->Detach(rank_, this);
  Close(ToGrpc(more.status()));
}

void AttendReactor::OnWriteDone(bool ok) {
  MutexLock lock(&mutex_);
  writing_ = false;
  outgoing_.pop_front();
  if (!ok) broken_ = true;
  if (broken_) outgoing_.clear();
  Pump();
}

void AttendReactor::Close(const grpc::Status& status) {
  MutexLock lock(&mutex_);
  closing_ = true;
  status_ = status;
  Pump();
}

void AttendReactor::Pump() {
  if (writing_ || finished_) return;
  if (!outgoing_.empty() && !broken_) {
    writing_ = true;
    StartWrite(outgoing_.front().get());
  } else if (closing_) {
    finished_ = true;
    Finish(status_);
  }
}

}  // namespace lockstep
