#include "coordinator/service/core.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "coordinator/service/words.h"

namespace lockstep {

Core::Core(CoreOptions options, std::unique_ptr<Journal> journal, RunState state, Recorder* recorder)
    : options_(std::move(options)),
      recorder_(recorder),
      pulses_(options_.world),
      journal_(std::move(journal)),
      state_(std::move(state)),
      places_(options_.world),
      begun_(options_.clock->Monotonic()),
      last_tick_(begun_) {}

absl::Status Core::Begin(RunStarted started) {
  MutexLock lock(&mutex_);
  Update update;
  *update.mutable_run_started() = std::move(started);
  RETURN_IF_ERROR(CheckNext(update));
  RETURN_IF_ERROR(Record(std::move(update)));
  begun_ = last_tick_ = options_.clock->Monotonic();
  Settle();
  WatchMaxTime();
  return absl::OkStatus();
}

absl::Status Core::CheckNext(Update update) const {
  update.set_seq(state_.last_seq() + 1);
  return state_.Check(update);
}

absl::Status Core::Record(Update update) {
  update.set_seq(state_.last_seq() + 1);
  update.set_time(Now());
  RETURN_IF_ERROR(journal_->Append(update));
  // Checked before it was journaled.
  RETURN_IF_ERROR(state_.Apply(update));
  Applied(update);
  return absl::OkStatus();
}

absl::Status Core::DecideAll() {
  for (std::vector<Decision> next = state_.Decide(); !next.empty(); next = state_.Decide()) {
    Update update;
    *update.mutable_decision() = next.front();
    RETURN_IF_ERROR(Record(std::move(update)));
  }
  return absl::OkStatus();
}

absl::Status Core::DrainBacklog() {
  RETURN_IF_ERROR(DecideAll());
  while (!backlog_.empty()) {
    // What does not hold any more when its turn comes is left out: a grant that was given, an end that came first.
    if (CheckNext(backlog_.front()).ok()) RETURN_IF_ERROR(Record(backlog_.front()));
    backlog_.pop_front();
    RETURN_IF_ERROR(DecideAll());
  }
  return absl::OkStatus();
}

void Core::Settle() {
  const bool was_failing = !journal_error_.ok();
  journal_error_ = DrainBacklog();
  if (journal_error_.ok()) {
    Announce();
    journal_error_ = MaybeEnd();
  }
  const bool failing = !journal_error_.ok();
  if (failing && !was_failing) {
    journal_failing_since_ = options_.clock->Monotonic();
    events_.Add(Now(), absl::StrCat("journal.db could not be written: ", Words(journal_error_.message()),
                                    "; decisions wait until it can"));
  } else if (was_failing && !failing) {
    events_.Add(Now(), "journal.db can be written again");
  }
}

void Core::Submit(Update fact) {
  if (incarnation_ == 0 || ended_) return;
  if (backlog_.size() < kMaxBacklog) backlog_.push_back(std::move(fact));
  Settle();
}

absl::Status Core::RecordNow(Update update) {
  Settle();
  absl::Status status = journal_error_;
  if (status.ok()) {
    RETURN_IF_ERROR(CheckNext(update));
    status = Record(std::move(update));
    if (status.ok()) {
      Settle();
      status = journal_error_;
    }
  }
  if (status.ok()) return status;
  return absl::UnavailableError(absl::StrCat("journal.db could not be written: ", status.message()));
}

void Core::Applied(const Update& update) {
  recorder_->Journaled(update);
  switch (update.kind_case()) {
    case Update::kRunStarted:
      incarnation_ = state_.incarnation();
      granted_ = state_.granted_through();
      break;
    case Update::kWorkerJoined:
      AppliedWorkerJoined(update);
      break;
    case Update::kWorkerLeft:
      grant_requests_.erase(update.worker_left().rank());
      break;
    case Update::kGranted:
      granted_ = state_.granted_through();
      break;
    case Update::kEvaluated:
      if (epoch_line_ && epoch_line_->step() == update.evaluated().step()) EmitEpochLine(&update.evaluated());
      break;
    case Update::kEpochDone:
      HoldEpochLine(update.epoch_done());
      break;
    case Update::kDecision:
      events_.Add(update.time(), update.decision());
      break;
    case Update::kCommunicationChosen:
      events_.Add(update.time(), update.communication_chosen().said());
      break;
    case Update::kCheckpointCommitted:
      events_.Add(update.time(), update.checkpoint_committed());
      break;
    default:
      break;
  }
}

void Core::AppliedWorkerJoined(const Update& update) {
  if (state_.present() != state_.world()) return;
  std::set<std::string> computes, warnings;
  for (const auto& [rank, worker] : state_.workers()) {
    const Place& place = places_[rank];
    if (!place.compute.empty()) computes.insert(place.compute);
    if (!place.warning.empty()) warnings.insert(absl::StrCat(worker.host, ": ", place.warning));
  }
  std::string joined = absl::StrCat("all ", state_.world(), " workers have joined");
  if (!computes.empty()) absl::StrAppend(&joined, " (", absl::StrJoin(computes, "; others: "), ")");
  events_.Add(update.time(), joined);
  for (const std::string& warning : warnings) events_.Add(update.time(), warning);
}

absl::StatusOr<GetRunReply> Core::GetRun() {
  MutexLock lock(&mutex_);
  if (incarnation_ == 0) return absl::UnavailableError("the coordinator is starting; try again");
  ++started_;
  GetRunReply reply;
  *reply.mutable_config() = state_.config();
  reply.set_config_digest(state_.config_digest());
  reply.set_data_digest(state_.data_digest());
  reply.set_incarnation(state_.incarnation());
  reply.set_world(state_.world());
  reply.set_build(state_.build());
  if (state_.resumed_from()) *reply.mutable_resume() = *state_.resumed_from();
  if (const CommunicationChosen* earlier = state_.earlier_communication()) *reply.mutable_communication() = *earlier;
  return reply;
}

absl::StatusOr<JoinReply> Core::Join(const JoinRequest& request) {
  MutexLock lock(&mutex_);
  if (incarnation_ == 0) return absl::UnavailableError("the coordinator is starting; try again");
  if (const absl::Status fits = state_.CheckJoin(request); !fits.ok()) {
    if (absl::IsFailedPrecondition(fits) && !state_.failed()) {
      refused_ = absl::StrCat("rank ", request.rank(), " on ", Words(request.host()),
                              " was refused: ", Words(std::string(fits.message())));
    }
    return fits;
  }
  Update joined;
  joined.mutable_worker_joined()->set_rank(request.rank());
  joined.mutable_worker_joined()->set_incarnation(request.incarnation());
  joined.mutable_worker_joined()->set_host(Words(request.host()));
  joined.mutable_worker_joined()->set_pid(request.pid());
  joined.mutable_worker_joined()->set_cores(request.cores());
  places_[request.rank()].compute = Words(request.compute());
  places_[request.rank()].warning = Words(request.warning());
  Hear(request.rank(), state_.start_step());
  RETURN_IF_ERROR(RecordNow(std::move(joined)));
  if (const int64_t next = state_.NextGrantThrough(state_.start_step()); next > state_.granted_through()) {
    Update granted;
    granted.mutable_granted()->set_through_step(next);
    RETURN_IF_ERROR(RecordNow(std::move(granted)));
  }
  JoinReply reply;
  *reply.mutable_grant() = GrantAfter(state_.start_step());
  reply.set_heartbeat_s(absl::ToDoubleSeconds(options_.heartbeat));
  return reply;
}

absl::StatusOr<RequestReply> Core::RequestStop(StopRequested request) {
  MutexLock lock(&mutex_);
  if (incarnation_ == 0) return absl::UnavailableError("the coordinator is starting; try again");
  if (ended_) return absl::FailedPreconditionError(absl::StrCat("the run has ended: ", ended_->why()));
  if (state_.stop()) {
    return absl::FailedPreconditionError(absl::StrCat("the run is already stopping: ", state_.stop()->reason()));
  }
  request.set_by(Words(request.by()));
  request.set_step(LastHeardStep());
  Update update;
  *update.mutable_stop_requested() = std::move(request);
  RETURN_IF_ERROR(RecordNow(std::move(update)));
  RequestReply reply;
  reply.set_said(ended_ ? "stopped before training began" : "stopping after a checkpoint");
  return reply;
}

absl::StatusOr<RequestReply> Core::RequestCheckpoint(CheckpointRequested request) {
  MutexLock lock(&mutex_);
  if (incarnation_ == 0) return absl::UnavailableError("the coordinator is starting; try again");
  if (ended_) return absl::FailedPreconditionError(absl::StrCat("the run has ended: ", ended_->why()));
  if (state_.stop()) {
    return absl::FailedPreconditionError(absl::StrCat("the run is already stopping: ", state_.stop()->reason()));
  }
  RequestReply reply;
  if (state_.checkpoint_on_its_way()) {
    reply.set_said("a checkpoint is on its way already");
    return reply;
  }
  request.set_by(Words(request.by()));
  request.set_step(LastHeardStep());
  Update update;
  *update.mutable_checkpoint_requested() = std::move(request);
  RETURN_IF_ERROR(RecordNow(std::move(update)));
  reply.set_said("a checkpoint is made in a few steps");
  return reply;
}

absl::StatusOr<CheckpointState> Core::BeginUpload(const CheckpointChunk::Header& header) {
  MutexLock lock(&mutex_);
  if (incarnation_ == 0) return absl::UnavailableError("the coordinator is starting; try again");
  if (header.incarnation() != state_.incarnation()) {
    return absl::FailedPreconditionError(absl::StrCat("a checkpoint of incarnation ", header.incarnation(),
                                                      ", the run is in incarnation ", state_.incarnation()));
  }
  if (ended_) return absl::FailedPreconditionError(absl::StrCat("the run has ended: ", ended_->why()));
  const int64_t step = header.cursor().step();
  // The upload may overtake the stream that announces it.
  if (Update due; !state_.IsCheckpointDue(step)) {
    due.mutable_checkpoint_due()->set_step(step);
    due.mutable_checkpoint_due()->set_epoch(header.cursor().epoch());
    due.mutable_checkpoint_due()->set_epoch_end(step > 0 && state_.plan().IsLastOfEpoch(step));
    RETURN_IF_ERROR(state_.CheckCheckpointDue(step));
    RETURN_IF_ERROR(RecordNow(std::move(due)));
  }
  if (uploading_) return absl::UnavailableError("another checkpoint is being uploaded; try again");
  if (!(header.bucket_mb() >= 0 && header.bucket_mb() <= 1e9)) {
    return absl::InvalidArgumentError("a checkpoint with a bucket size that is none");
  }
  uploading_ = true;
  CheckpointState state = state_.StateAt(header.cursor());
  state.set_bucket_mb(header.bucket_mb());
  return state;
}

absl::Status Core::CommitCheckpoint(const CheckpointCommitted& committed) {
  MutexLock lock(&mutex_);
  if (ended_) return absl::FailedPreconditionError(absl::StrCat("the run has ended: ", ended_->why()));
  Update update;
  *update.mutable_checkpoint_committed() = committed;
  return RecordNow(std::move(update));
}

void Core::EndUpload() {
  MutexLock lock(&mutex_);
  uploading_ = false;
  if (!ended_) Settle();
}

void Core::ReportProblem(const std::string& rule, const std::string& what, int64_t step) {
  MutexLock lock(&mutex_);
  Update update;
  update.mutable_problem()->set_rule(rule);
  update.mutable_problem()->set_what(Words(what));
  update.mutable_problem()->set_step(step);
  if (incarnation_ == 0 || ended_ || !RecordNow(std::move(update)).ok()) events_.Add(Now(), Words(what));
}

void Core::Note(const std::string& text) {
  MutexLock lock(&mutex_);
  events_.Add(Now(), Words(text));
}

void Core::AskToStop(const std::string& by, bool signal) {
  MutexLock lock(&mutex_);
  if (state_.stop()) return;
  Update update;
  update.mutable_stop_requested()->set_by(Words(by));
  update.mutable_stop_requested()->set_signal(signal);
  update.mutable_stop_requested()->set_step(LastHeardStep());
  Submit(std::move(update));
}

void Core::Abort(const std::string& why) {
  MutexLock lock(&mutex_);
  if (state_.failed()) return;
  Update update;
  update.mutable_failed()->set_rank(-1);
  update.mutable_failed()->set_step(LastHeardStep());
  update.mutable_failed()->set_what(Words(why));
  Submit(std::move(update));
}

int Core::keep_last() {
  MutexLock lock(&mutex_);
  return state_.config().checkpoint().keep_last();
}

bool Core::WaitUntilEnded(absl::Duration timeout) {
  const absl::Time until = absl::Now() + timeout;
  MutexLock lock(&mutex_);
  while (!flushed_) {
    const absl::Duration left = until - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    flushed_changed_.WaitFor(&mutex_, left);
  }
  return true;
}

RunEnded Core::ended() {
  MutexLock lock(&mutex_);
  return ended_.value_or(RunEnded());
}

}  // namespace lockstep
