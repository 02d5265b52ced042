// Workers' messages.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "coordinator/service/core.h"
#include "coordinator/service/words.h"

namespace lockstep {
namespace {

constexpr int kMaxMetrics = 64;
constexpr int kMaxAbout = 8;  // ranks

bool IsFromRankZeroOnly(const WorkerMessage& message) {
  return message.has_evaluated() || message.has_epoch_done() || message.has_checkpoint_due() ||
         message.has_communication_chosen() || message.has_buckets_measured();
}

}  // namespace

void Core::Hear(int rank, int64_t step) {
  Pulse& pulse = pulses_[rank];
  pulse.heard_ns.store(absl::ToInt64Nanoseconds(options_.clock->Monotonic()), std::memory_order_relaxed);
  if (step > pulse.step.load(std::memory_order_relaxed)) pulse.step.store(step, std::memory_order_relaxed);
}

int64_t Core::LastHeardStep() const {
  int64_t last = 0;
  for (const Pulse& pulse : pulses_) last = std::max(last, pulse.step.load(std::memory_order_relaxed));
  return last;
}

absl::Status Core::Attach(int rank, int incarnation, WorkerLink* link) {
  MutexLock lock(&mutex_);
  if (incarnation_ == 0) return absl::UnavailableError("the coordinator is starting; try again");
  if (ended_) return absl::FailedPreconditionError(absl::StrCat("the run has ended: ", ended_->why()));
  RETURN_IF_ERROR(state_.CheckSender(rank, incarnation));
  Place& place = places_[rank];
  if (place.attended) return absl::AlreadyExistsError(absl::StrCat("rank ", rank, " attends already"));
  place.attended = true;
  place.link = link;
  Hear(rank, 0);
  // What was announced before it came.
  const auto send = [&](CoordinatorMessage message) {
    link->Send(std::make_shared<const CoordinatorMessage>(std::move(message)));
  };
  CoordinatorMessage message;
  for (size_t i = 0; i < directives_sent_; ++i) {
    *message.mutable_directive() = state_.directives()[i];
    send(message);
  }
  if (rank == 0) SendLastVerdict();
  if (aborted_ && state_.stop()) {
    message.mutable_abort()->set_reason(state_.stop()->reason());
    send(message);
  }
  return absl::OkStatus();
}

void Core::Detach(int rank, const WorkerLink* link) {
  MutexLock lock(&mutex_);
  Place& place = places_[rank];
  if (place.link != link) return;
  place.link = nullptr;
  Lose(rank, absl::StrCat("its connection broke after step ", pulses_[rank].step.load(std::memory_order_relaxed)));
}

void Core::Lose(int rank, const std::string& why) {
  if (!state_.CheckSender(rank, incarnation_).ok()) return;
  // With a rank that may not join, mpirun ends those that have: they are not the reason.
  if (!AllHaveJoined() && !refused_.empty() && !state_.failed()) {
    Update failed;
    failed.mutable_failed()->set_rank(-1);
    failed.mutable_failed()->set_what(refused_);
    Submit(std::move(failed));
  }
  Update update;
  WorkerLeft* left = update.mutable_worker_left();
  left->set_rank(rank);
  left->set_incarnation(incarnation_);
  left->set_why(why);
  left->set_lost(true);
  left->set_step(pulses_[rank].step.load(std::memory_order_relaxed));
  Submit(std::move(update));
}

absl::StatusOr<bool> Core::Receive(int rank, const WorkerMessage& message) {
  if (message.rank() != rank || message.incarnation() != incarnation_) {
    return absl::InvalidArgumentError(absl::StrCat("a message of rank ", message.rank(), ", incarnation ",
                                                   message.incarnation(), ", on the stream of rank ", rank,
                                                   ", incarnation ", incarnation_.load()));
  }
  if (rank < 0 || rank >= static_cast<int>(pulses_.size())) {
    return absl::InvalidArgumentError(absl::StrCat("there is no rank ", rank));
  }
  Hear(rank, message.has_heartbeat() ? std::min<int64_t>(message.heartbeat().step(), granted_) : 0);
  if (message.has_heartbeat()) return true;
  if (message.has_reports()) {
    RETURN_IF_ERROR(TakeReports(rank, message.reports()));
    return true;
  }
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(TakeFact(rank, message));
  if (!message.has_leaving()) return true;
  places_[rank].link = nullptr;
  return false;
}

absl::Status Core::TakeReports(int rank, const StepBatch& batch) {
  const int64_t granted = granted_;
  int64_t last = 0;
  for (const StepRecord& record : batch.steps()) last = std::max(last, record.step());
  if (last > granted) {
    return absl::InvalidArgumentError(
        absl::StrCat("a report of step ", last, ", where steps are granted through ", granted));
  }
  recorder_->Report(rank, batch);
  Hear(rank, last);
  return absl::OkStatus();
}

absl::Status Core::TakeFact(int rank, const WorkerMessage& message) {
  RETURN_IF_ERROR(state_.CheckSender(rank, incarnation_));
  if (IsFromRankZeroOnly(message) && rank != 0) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", rank, " sent what rank 0 alone sends"));
  }
  Update update;
  switch (message.kind_case()) {
    case WorkerMessage::kGrantRequest:
      TakeGrantRequest(rank, message.grant_request().through_step());
      return absl::OkStatus();
    case WorkerMessage::kEvaluated:
      return TakeEvaluation(message.evaluated());
    case WorkerMessage::kEpochDone:
      return TakeEpochDone(message.epoch_done());
    case WorkerMessage::kFailed:
      TakeFailed(rank, message.failed());
      return absl::OkStatus();
    case WorkerMessage::kCheckpointDue:
      TakeCheckpointDue(message.checkpoint_due());
      return absl::OkStatus();
    case WorkerMessage::kCommunicationChosen:
      return TakeCommunication(message.communication_chosen());
    case WorkerMessage::kBucketsMeasured:
      return TakeBuckets(message.buckets_measured());
    case WorkerMessage::kStopRequested:
      if (state_.stop()) return absl::OkStatus();
      *update.mutable_stop_requested() = message.stop_requested();
      update.mutable_stop_requested()->set_by(Words(message.stop_requested().by()));
      update.mutable_stop_requested()->set_step(LastHeardStep());
      break;
    case WorkerMessage::kLeaving:
      update.mutable_worker_left()->set_rank(rank);
      update.mutable_worker_left()->set_incarnation(incarnation_);
      update.mutable_worker_left()->set_why(Words(message.leaving().why()));
      update.mutable_worker_left()->set_step(message.leaving().step());
      break;
    default:
      return absl::InvalidArgumentError("a message of a kind that this version does not know");
  }
  Submit(std::move(update));
  return absl::OkStatus();
}

void Core::TakeGrantRequest(int rank, int64_t through) {
  grant_requests_[rank] = std::clamp(through, state_.start_step(), state_.granted_through());
  Update update;
  update.mutable_granted()->set_through_step(state_.NextGrantThrough(through));
  // One that asks for what is granted already is answered without a new one.
  if (update.granted().through_step() > state_.granted_through()) return Submit(std::move(update));
  Settle();
}

absl::Status Core::TakeEvaluation(const EvaluationResult& result) {
  if (result.metrics_size() > kMaxMetrics) return absl::InvalidArgumentError("an evaluation with too many metrics");
  const absl::Status valid = state_.CheckEvaluation(result);
  if (absl::IsAlreadyExists(valid) && last_verdict_ && last_verdict_->step() == result.step()) {
    SendLastVerdict();
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(valid);
  Update update;
  *update.mutable_evaluated() = result;
  Submit(std::move(update));
  return absl::OkStatus();
}

absl::Status Core::TakeEpochDone(const EpochDone& done) {
  const int64_t last_epoch = state_.granted_through() > 0 ? state_.plan().EpochOf(state_.granted_through()) : 0;
  if (done.epoch() < 0 || done.epoch() > last_epoch) {
    return absl::InvalidArgumentError(absl::StrCat("the end of epoch ", done.epoch(), ", which is not granted"));
  }
  Update update;
  *update.mutable_epoch_done() = done;
  Submit(std::move(update));
  return absl::OkStatus();
}

absl::Status Core::TakeCommunication(const CommunicationChosen& chosen) {
  Update update;
  *update.mutable_communication_chosen() = chosen;
  update.mutable_communication_chosen()->set_said(Words(chosen.said()));
  RETURN_IF_ERROR(state_.CheckCommunication(update.communication_chosen()));
  Submit(std::move(update));
  return absl::OkStatus();
}

absl::Status Core::TakeBuckets(const BucketsMeasured& measured) {
  if (state_.stop()) return absl::OkStatus();  // they came too late for anything
  Update update;
  *update.mutable_buckets_measured() = measured;
  RETURN_IF_ERROR(state_.CheckBuckets(measured));
  Submit(std::move(update));
  return absl::OkStatus();
}

void Core::TakeFailed(int rank, const Failed& failed) {
  if (state_.failed()) return;  // the first word counts
  Update update;
  Failed* taken = update.mutable_failed();
  *taken = failed;
  taken->set_what(Words(failed.what()));
  if (failed.rank() < 0 || failed.rank() >= state_.world()) taken->set_rank(rank);
  taken->clear_about();
  for (const int about : failed.about()) {
    if (about >= 0 && about < state_.world() && taken->about_size() < kMaxAbout) taken->add_about(about);
  }
  Submit(std::move(update));
}

void Core::TakeCheckpointDue(const CheckpointDue& due) {
  const absl::Status valid = state_.CheckCheckpointDue(due.step());
  if (valid.ok()) {
    Update update;
    *update.mutable_checkpoint_due() = due;
    Submit(std::move(update));
  } else if (!absl::IsAlreadyExists(valid) && due.step() > state_.last_checkpoint()) {
    // Its upload will be refused with the same words.
    events_.Add(Now(), absl::StrCat("a checkpoint that is not due: ", valid.message()));
  }
}

}  // namespace lockstep
