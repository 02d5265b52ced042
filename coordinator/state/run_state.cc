#include "coordinator/state/run_state.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "coordinator/state/convergence.h"

namespace lockstep {
absl::Status RunState::Apply(const Update& update) {
  RETURN_IF_ERROR(Check(update));
  if (update.has_run_started()) {
    ApplyRunStarted(update.run_started(), update.time());
  } else {
    ApplyFact(update);
  }
  last_seq_ = update.seq();
  last_time_ = update.time();
  return absl::OkStatus();
}

void RunState::ApplyFact(const Update& update) {
  switch (update.kind_case()) {
    case Update::kWorkerJoined:
      return ApplyWorkerJoined(update.worker_joined());
    case Update::kWorkerLeft:
      return ApplyWorkerLeft(update.worker_left());
    case Update::kGranted:
      granted_through_ = update.granted().through_step();
      return;
    case Update::kEvaluated:
      return ApplyEvaluated(update.evaluated());
    case Update::kStopRequested:
      if (!stop_requested_) stop_requested_ = update.stop_requested();
      return;
    case Update::kCheckpointRequested:
      request_undecided_ = update.checkpoint_requested();
      return;
    case Update::kCheckpointDue:
      return ApplyCheckpointDue(update.checkpoint_due().step());
    case Update::kFailed:
      if (!failure_) failure_ = update.failed();
      return;
    case Update::kTimeReached:
      if (!time_reached_) time_reached_ = update.time_reached();
      return;
    case Update::kDecision:
      return ApplyDecision(update.decision());
    case Update::kCheckpointCommitted:
      return ApplyCheckpointCommitted(update.checkpoint_committed());
    case Update::kRunEnded:
      ended_ = update.run_ended();
      return;
    case Update::kProblem:
      problem_ = update.problem();
      return;
    case Update::kCommunicationChosen:
      ApplyCommunicationChosen(update.communication_chosen());
      return;
    case Update::kBucketsMeasured:
      tuner_->Measured(update.buckets_measured());
      buckets_step_ = update.buckets_measured().last_step();
      return;
    case Update::kEpochDone:  // recorded for people; nothing follows from it
    case Update::kRunStarted:
    case Update::KIND_NOT_SET:
      return;
  }
}

void RunState::ApplyRunStarted(const RunStarted& started, double time) {
  if (started_) elapsed_before_ += std::max(0.0, ended_ ? ended_->seconds() : last_time_ - started_time_);
  started_time_ = time;
  RollBackTo(started);
}

void RunState::RollBackTo(const RunStarted& started) {
  RunState fresh;
  fresh.last_seq_ = last_seq_;
  fresh.elapsed_before_ = elapsed_before_;
  fresh.started_time_ = started_time_;
  fresh.communication_ = communication_;
  fresh.started_ = true;
  fresh.incarnation_ = started.incarnation();
  fresh.world_ = started.world();
  fresh.config_ = started.config();
  fresh.config_digest_ = started.config_digest();
  fresh.data_digest_ = started.data_digest();
  fresh.build_ = started.build();
  fresh.val_samples_ = started.val_samples();
  fresh.plan_.emplace(started.train_samples(), started.config().data().global_batch_size(),
                      started.config().run().seed(), started.config().data().shuffle());
  fresh.schedule_.emplace(started.config(), *fresh.plan_);
  if (started.has_from()) {
    const CheckpointState& from = started.from();
    fresh.resumed_from_ = from;
    fresh.start_step_ = fresh.granted_through_ = fresh.last_checkpoint_ = from.cursor().step();
    fresh.evaluations_.assign(from.evaluations().begin(), from.evaluations().end());
    // By the metric that decides now, which a resume may have changed.
    const Metric metric = fresh.config_.convergence().metric();
    if (const int best = BestEvaluation(fresh.evaluations_, metric); best >= 0) {
      fresh.best_step_ = fresh.evaluations_[best].step();
      fresh.best_value_ = MetricOf(fresh.evaluations_[best], metric);
    }
  }
  const Communication& communication = fresh.config_.communication();
  if (communication.bucket_tuning() == BUCKET_TUNING_AUTO) {
    if (fresh.start_step_ == 0) {
      fresh.tuner_.emplace(communication.bucket_mb());
    } else if (tuner_ && tuner_->over() && buckets_step_ <= fresh.start_step_ &&
               tuner_->in_force_mb() == fresh.BucketMbAtStart()) {
      // The search had ended by then, and stays ended: the run repeats bitwise.
      fresh.tuner_ = std::move(tuner_);
      fresh.buckets_step_ = buckets_step_;
    }
  }
  *this = std::move(fresh);
}

double RunState::BucketMbAtStart() const {
  const double kept_mb = resumed_from_ ? resumed_from_->bucket_mb() : 0;
  return kept_mb > 0 ? kept_mb : config_.communication().bucket_mb();
}

// Where a search for the bucket size had not ended, it begins anew: not all that it was told is of steps that count.
void RunState::ApplyCommunicationChosen(const CommunicationChosen& chosen) {
  communication_ = chosen;
  const bool wanted = config_.communication().bucket_tuning() == BUCKET_TUNING_AUTO && !tuner_;
  if (!wanted || world_ == 1 || chosen.structure() == "shared") return;
  tuner_ = BucketTuner::Anew(config_.communication().bucket_mb(), BucketMbAtStart(), start_step_);
  buckets_step_ = start_step_;
}

void RunState::ApplyWorkerJoined(const WorkerJoined& joined) {
  Worker& worker = workers_[joined.rank()];
  worker.joined = true;
  worker.host = joined.host();
  worker.pid = joined.pid();
  ++present_;
}

void RunState::ApplyWorkerLeft(const WorkerLeft& left) {
  workers_[left.rank()].left = left.why().empty() ? "done" : left.why();
  --present_;
  // Nobody leaves a run that goes on.
  if ((left.lost() || !stop_) && !loss_) loss_ = left;
}

void RunState::ApplyEvaluated(const EvaluationResult& result) {
  const Metric metric = config_.convergence().metric();
  evaluations_.push_back(result);
  if (!LastIsBest(evaluations_, metric)) return;
  best_step_ = result.step();
  best_value_ = MetricOf(result, metric);
  best_undecided_ = true;
}

void RunState::ApplyCheckpointDue(int64_t step) {
  if (CheckpointRule(step) != "request") {
    due_undecided_ = step;
    return;
  }
  --unconsumed_requests_;  // it was decided when it was requested
  AddDue(step);
}

void RunState::AddDue(int64_t step) {
  due_.insert(step);
  if (due_.size() > kMaxDue) due_.erase(due_.begin());
}

void RunState::ApplyCheckpointCommitted(const CheckpointCommitted& committed) {
  last_checkpoint_ = committed.step();
  due_.erase(due_.begin(), due_.upper_bound(committed.step()));
  request_pending_ = false;
}

void RunState::ApplyDecision(const Decision& decision) {
  if (decision.kind() == "checkpoint") {
    ApplyCheckpointDecision(decision);
  } else if (decision.kind() == "stop") {
    ApplyStop(decision);
  } else if (decision.kind() == "buckets") {
    ApplyBucketsDecision(decision);
  } else {
    problem_.reset();
  }
}

void RunState::ApplyStop(const Decision& decision) {
  stop_ = decision;
  if (decision.directive() == 0) return;
  Directive directive;
  directive.set_number(decision.directive());
  directive.mutable_stop()->set_rule(decision.rule());
  directives_.push_back(directive);
}

void RunState::ApplyBucketsDecision(const Decision& decision) {
  Directive directive;
  directive.set_number(decision.directive());
  directive.mutable_set_buckets()->set_bucket_mb(tuner_->next()->bucket_mb);
  directive.mutable_set_buckets()->set_measure_steps(tuner_->next()->measure_steps);
  directives_.push_back(directive);
  tuner_->Moved();
}

void RunState::ApplyCheckpointDecision(const Decision& decision) {
  if (decision.rule() == "best") {
    AddDue(decision.step());
    best_undecided_ = false;
  } else if (decision.rule() == "request") {
    Directive directive;
    directive.set_number(decision.directive());
    directive.mutable_checkpoint();
    directives_.push_back(directive);
    request_undecided_.reset();
    request_pending_ = true;
    ++unconsumed_requests_;
  } else {
    AddDue(decision.step());
    due_undecided_.reset();
  }
}

std::string RunState::CheckpointRule(int64_t step) const {
  // Checkpoints come in the order of their steps.
  if (step <= last_checkpoint_ || step < start_step_ || step > granted_through_) return "";
  const std::string rule = schedule_->CheckpointRule(step);
  if (!rule.empty()) return rule;
  // Where ranks do not meet at every step, one that falls due in between waits for the next meeting.
  if (config_.communication().period() > 1 && schedule_->CheckpointDueBetween(last_checkpoint_, step)) {
    return "every_steps";
  }
  if (stop_ && !stop_->failure()) return "stop";
  return unconsumed_requests_ > 0 ? "request" : "";
}

int64_t RunState::NextGrantThrough(int64_t through) const {
  const int64_t held = std::clamp(through, start_step_, std::max(start_step_, granted_through_));
  return std::max(granted_through_, std::min(held + config_.control().grant_steps(), final_step()));
}

Grant RunState::MakeGrant(int64_t after) const { return schedule_->MakeGrant(after, granted_through_); }

absl::StatusOr<Verdict> RunState::VerdictAt(int64_t step) const {
  const auto found = std::find_if(evaluations_.rbegin(), evaluations_.rend(),
                                  [&](const EvaluationResult& evaluation) { return evaluation.step() <= step; });
  if (found == evaluations_.rend() || found->step() != step) {
    return absl::NotFoundError(absl::StrCat("step ", step, " is not evaluated yet"));
  }
  Verdict verdict;
  verdict.set_step(step);
  verdict.set_stop(stop_.has_value());
  verdict.set_best(best_step_ == step);
  verdict.set_checkpoint(IsCheckpointDue(step) || (stop_ && !stop_->failure()));
  return verdict;
}

CheckpointState RunState::StateAt(const Cursor& cursor) const {
  CheckpointState state;
  state.set_schema_version(1);
  *state.mutable_cursor() = cursor;
  state.set_seed(config_.run().seed());
  state.set_global_batch_size(config_.data().global_batch_size());
  state.set_train_samples(plan_->samples());
  state.set_config_digest(config_digest_);
  state.set_data_digest(data_digest_);
  size_t count = 0;
  for (const EvaluationResult& evaluation : evaluations_) {
    if (evaluation.step() > cursor.step() || (evaluation.step() == cursor.step() && !cursor.evaluated())) break;
    *state.add_evaluations() = evaluation;
    ++count;
  }
  const absl::Span<const EvaluationResult> before(evaluations_.data(), count);
  const Metric metric = config_.convergence().metric();
  const int best = BestEvaluation(before, metric);
  state.set_best_step(best < 0 ? -1 : before[best].step());
  state.set_best_value(best < 0 ? 0 : MetricOf(before[best], metric));
  state.set_elapsed_s(ElapsedAt(last_time_));
  return state;
}

const CommunicationChosen* RunState::earlier_communication() const {
  const bool earlier = communication_ && communication_->incarnation() < incarnation_;
  return earlier && communication_->world() == world_ ? &*communication_ : nullptr;
}

double RunState::ElapsedAt(double time) const { return elapsed_before_ + std::max(0.0, time - started_time_); }

int RunState::ExitCode() const {
  if (failure_ && failure_->bad_input()) return 2;
  if (!stop_ || stop_->failure()) return 1;
  if (stop_->signal()) return last_checkpoint_ >= 0 ? 3 : 1;
  return 0;
}

}  // namespace lockstep
