// What may come next: RunState::Check and the answers to what comes over the wire.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "coordinator/state/communication.h"
#include "coordinator/state/run_state.h"

namespace lockstep {
namespace {

absl::Status Wrong(absl::string_view what) { return absl::InvalidArgumentError(what); }

}  // namespace

absl::Status RunState::Check(const Update& update) const {
  if (update.seq() != last_seq_ + 1) {
    return Wrong(absl::StrCat("journal update ", update.seq(), ": its number should be ", last_seq_ + 1));
  }
  return Annotate(CheckKind(update), absl::StrCat("journal update ", update.seq()));
}

absl::Status RunState::CheckKind(const Update& update) const {
  if (update.has_run_started()) return CheckRunStarted(update.run_started());
  if (!started_) return Wrong("before the run has started");
  if (ended_) return Wrong("after the run's end");
  return CheckFact(update);
}

absl::Status RunState::CheckFact(const Update& update) const {
  switch (update.kind_case()) {
    case Update::kWorkerJoined:
      return CheckWorkerJoined(update.worker_joined());
    case Update::kWorkerLeft:
      return CheckWorkerLeft(update.worker_left());
    case Update::kGranted:
      return CheckGranted(update.granted());
    case Update::kEvaluated:
      return CheckEvaluation(update.evaluated());
    case Update::kCheckpointDue:
      return CheckCheckpointDue(update.checkpoint_due().step());
    case Update::kCommunicationChosen:
      return CheckCommunication(update.communication_chosen());
    case Update::kBucketsMeasured:
      return CheckBuckets(update.buckets_measured());
    case Update::kDecision:
      return CheckDecision(update.decision());
    case Update::kCheckpointCommitted:
      return CheckCheckpointCommitted(update.checkpoint_committed());
    case Update::kEpochDone:
    case Update::kStopRequested:
    case Update::kCheckpointRequested:
    case Update::kFailed:
    case Update::kTimeReached:
    case Update::kRunEnded:
    case Update::kProblem:
      return absl::OkStatus();
    case Update::kRunStarted:
    case Update::KIND_NOT_SET:
      break;
  }
  return Wrong("of a kind that this version does not know");
}

absl::Status RunState::CheckRunStarted(const RunStarted& started) const {
  if (started.incarnation() != incarnation_ + 1) {
    return Wrong(absl::StrCat("incarnation ", started.incarnation(), " after ", incarnation_));
  }
  const Data& data = started.config().data();
  if (started.world() <= 0 || started.train_samples() <= 0 || data.global_batch_size() <= 0) {
    return Wrong("a run without workers, samples or a batch size");
  }
  if (started.config().convergence().max_epochs() <= 0) return Wrong("a run without an epoch");
  if (started.has_from() && started.from().cursor().step() < 0) return Wrong("a start before step 0");
  return absl::OkStatus();
}

absl::Status RunState::CheckWorkerJoined(const WorkerJoined& joined) const {
  if (joined.incarnation() != incarnation_) return Wrong("a worker of another incarnation");
  if (joined.rank() < 0 || joined.rank() >= world_) return Wrong("a rank outside of the world");
  if (workers_.count(joined.rank()) > 0) return Wrong(absl::StrCat("rank ", joined.rank(), " joins twice"));
  return absl::OkStatus();
}

absl::Status RunState::CheckWorkerLeft(const WorkerLeft& left) const {
  const auto found = workers_.find(left.rank());
  if (left.incarnation() != incarnation_ || found == workers_.end() || !found->second.left.empty()) {
    return Wrong(absl::StrCat("rank ", left.rank(), " leaves and is not there"));
  }
  return absl::OkStatus();
}

absl::Status RunState::CheckGranted(const Granted& granted) const {
  if (granted.through_step() <= granted_through_ || granted.through_step() > final_step()) {
    return Wrong(absl::StrCat("a grant through step ", granted.through_step(), " after ", granted_through_));
  }
  return absl::OkStatus();
}

absl::Status RunState::CheckCheckpointCommitted(const CheckpointCommitted& committed) const {
  if (IsCheckpointDue(committed.step())) return absl::OkStatus();
  return Wrong(absl::StrCat("the checkpoint of step ", committed.step(), " was not decided"));
}

absl::Status RunState::CheckDecision(const Decision& decision) const {
  if (decision.directive() != 0 && decision.directive() != NextDirective()) {
    return Wrong(absl::StrCat("directive ", decision.directive(), " where ", NextDirective(), " is next"));
  }
  if (decision.kind() == "stop") {
    const bool second = stop_ && (stop_->failure() || !decision.failure());
    return second ? Wrong("a second stop") : absl::OkStatus();
  }
  if (decision.kind() == "checkpoint") {
    const bool lost = decision.rule() == "request" && decision.directive() == 0;
    return lost ? Wrong("a requested checkpoint without a directive") : absl::OkStatus();
  }
  if (decision.kind() == "buckets") {
    const bool due = tuner_ && tuner_->next() && decision.directive() != 0;
    return due ? absl::OkStatus() : Wrong("a bucket size that nothing asks for");
  }
  if (decision.kind() == "warning") return absl::OkStatus();
  return Wrong(absl::StrCat("a decision of unknown kind '", decision.kind(), "'"));
}

absl::Status RunState::CheckJoin(const JoinRequest& request) const {
  if (!started_) return absl::UnavailableError("the coordinator is starting; try again");
  if (ended_) return absl::FailedPreconditionError(absl::StrCat("the run has ended: ", ended_->why()));
  if (failed()) return absl::FailedPreconditionError(absl::StrCat("the run has failed: ", stop_->reason()));
  if (request.rank() < 0 || request.rank() >= world_) {
    return absl::OutOfRangeError(absl::StrCat("rank ", request.rank(), " is not in [0, ", world_, ")"));
  }
  if (request.world() != world_) {
    return absl::FailedPreconditionError(absl::StrCat("this worker was started as one of ", request.world(),
                                                      ", the run has ", world_, " workers: start mpirun with -n ",
                                                      world_));
  }
  if (request.incarnation() != incarnation_) {
    return absl::FailedPreconditionError(absl::StrCat("this worker belongs to incarnation ", request.incarnation(),
                                                      ", the run is in incarnation ", incarnation_,
                                                      ": start the worker anew"));
  }
  if (request.config_digest() != config_digest_) {
    return absl::FailedPreconditionError(absl::StrCat("this worker's config has digest ", request.config_digest(),
                                                      ", the run's has ", config_digest_,
                                                      ": start both from the same config"));
  }
  if (request.build() != build_) {
    return absl::FailedPreconditionError(absl::StrCat("this worker is build ", request.build(),
                                                      ", the coordinator is build ", build_,
                                                      ": install the same on every host"));
  }
  if (const auto found = workers_.find(request.rank()); found != workers_.end()) {
    return absl::AlreadyExistsError(absl::StrCat("rank ", request.rank(), " has joined already, from ",
                                                 found->second.host, " (pid ", found->second.pid, ")"));
  }
  return absl::OkStatus();
}

absl::Status RunState::CheckSender(int rank, int incarnation) const {
  if (!started_) return absl::UnavailableError("the coordinator is starting; try again");
  if (incarnation != incarnation_) {
    return absl::FailedPreconditionError(
        absl::StrCat("a message of incarnation ", incarnation, ", the run is in incarnation ", incarnation_));
  }
  const auto found = workers_.find(rank);
  if (found == workers_.end()) {
    return absl::FailedPreconditionError(absl::StrCat("rank ", rank, " has not joined: call Join first"));
  }
  if (!found->second.left.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("rank ", rank, " has left: ", found->second.left));
  }
  return absl::OkStatus();
}

absl::Status RunState::CheckEvaluation(const EvaluationResult& result) const {
  const int64_t step = result.step();
  if (step <= start_step_ || step > granted_through_ || !EvaluationDue(step)) {
    return absl::FailedPreconditionError(absl::StrCat("no evaluation is due at step ", step));
  }
  if (!evaluations_.empty() && step <= evaluations_.back().step()) {
    return absl::AlreadyExistsError(absl::StrCat("step ", evaluations_.back().step(), " is evaluated already"));
  }
  return absl::OkStatus();
}

absl::Status RunState::CheckCommunication(const CommunicationChosen& chosen) const {
  if (chosen.incarnation() != incarnation_ || chosen.world() != world_) {
    return absl::FailedPreconditionError(absl::StrCat("a choice of communication of incarnation ", chosen.incarnation(),
                                                      " and ", chosen.world(), " workers, the run is in incarnation ",
                                                      incarnation_, " with ", world_));
  }
  if (communication_ && communication_->incarnation() == incarnation_) {
    return absl::AlreadyExistsError("communication is chosen already");
  }
  return CheckChoice(chosen);
}

absl::Status RunState::CheckBuckets(const BucketsMeasured& measured) const {
  constexpr int kMostSteps = 1000;
  if (!tuner_ || tuner_->over() || tuner_->next() || measured.bucket_mb() != tuner_->in_force_mb()) {
    return absl::FailedPreconditionError(absl::StrCat("nobody asks for times with bucket_mb ", measured.bucket_mb()));
  }
  const int64_t first = measured.first_step(), last = measured.last_step();
  const bool steps = first > start_step_ && last <= granted_through_ && last - first + 1 == measured.step_s_size();
  const bool times = std::all_of(measured.step_s().begin(), measured.step_s().end(),
                                 [](double step_s) { return std::isfinite(step_s) && step_s > 0; });
  if (steps && times && measured.step_s_size() > 0 && measured.step_s_size() <= kMostSteps) return absl::OkStatus();
  return Wrong("times of steps that are none");
}

absl::Status RunState::CheckCheckpointDue(int64_t step) const {
  if (IsCheckpointDue(step) || due_undecided_ == step) {
    return absl::AlreadyExistsError(absl::StrCat("the checkpoint at step ", step, " is announced already"));
  }
  if (!CheckpointRule(step).empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("nothing asks for a checkpoint at step ", step));
}

}  // namespace lockstep
