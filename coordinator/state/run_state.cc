#include "coordinator/state/run_state.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "coordinator/state/convergence.h"

namespace lockstep {
namespace {

absl::Status Wrong(absl::string_view what) { return absl::InvalidArgumentError(what); }

}  // namespace

absl::Status RunState::Apply(const Update& update) {
  absl::Status applied =
      update.seq() == last_seq_ + 1 ? ApplyKind(update) : Wrong(absl::StrCat("its number should be ", last_seq_ + 1));
  if (!applied.ok()) return Annotate(applied, absl::StrCat("journal update ", update.seq()));
  last_seq_ = update.seq();
  last_time_ = update.time();
  return absl::OkStatus();
}

absl::Status RunState::ApplyKind(const Update& update) {
  if (update.kind_case() == Update::kRunStarted) return ApplyRunStarted(update.run_started(), update.time());
  if (!started_) return Wrong("before the run has started");
  if (ended_) return Wrong("after the run's end");
  return ApplyFact(update);
}

absl::Status RunState::ApplyFact(const Update& update) {
  switch (update.kind_case()) {
    case Update::kWorkerJoined:
      return ApplyWorkerJoined(update.worker_joined());
    case Update::kWorkerLeft:
      return ApplyWorkerLeft(update.worker_left());
    case Update::kGranted:
      return ApplyGranted(update.granted());
    case Update::kEvaluated:
      return ApplyEvaluated(update.evaluated());
    case Update::kEpochDone:
      return absl::OkStatus();
    case Update::kStopRequested:
      if (!stop_requested_) stop_requested_ = update.stop_requested();
      return absl::OkStatus();
    case Update::kCheckpointRequested:
      request_undecided_ = update.checkpoint_requested();
      return absl::OkStatus();
    case Update::kCheckpointDue:
      return ApplyCheckpointDue(update.checkpoint_due());
    case Update::kFailed:
      if (!failure_) failure_ = update.failed();
      return absl::OkStatus();
    case Update::kTimeReached:
      if (!time_reached_) time_reached_ = update.time_reached();
      return absl::OkStatus();
    case Update::kDecision:
      return ApplyDecision(update.decision());
    case Update::kCheckpointCommitted:
      return ApplyCheckpointCommitted(update.checkpoint_committed());
    case Update::kRunEnded:
      ended_ = update.run_ended();
      return absl::OkStatus();
    case Update::kProblem:
      problem_ = update.problem();
      return absl::OkStatus();
    case Update::kRunStarted:
    case Update::KIND_NOT_SET:
      break;
  }
  return Wrong("of a kind that this version does not know");
}

absl::Status RunState::ApplyRunStarted(const RunStarted& started, double time) {
  if (started.incarnation() != incarnation_ + 1) {
    return Wrong(absl::StrCat("incarnation ", started.incarnation(), " after ", incarnation_));
  }
  const Data& data = started.config().data();
  if (started.world() <= 0 || started.train_samples() <= 0 || data.global_batch_size() <= 0) {
    return Wrong("a run without workers, samples or a batch size");
  }
  if (started.has_from() && started.from().cursor().step() < 0) return Wrong("a start before step 0");
  if (started_) elapsed_before_ += std::max(0.0, ended_ ? ended_->seconds() : last_time_ - started_time_);
  started_time_ = time;
  RollBackTo(started);
  return absl::OkStatus();
}

void RunState::RollBackTo(const RunStarted& started) {
  RunState fresh;
  fresh.last_seq_ = last_seq_;
  fresh.elapsed_before_ = elapsed_before_;
  fresh.started_time_ = started_time_;
  fresh.started_ = true;
  fresh.incarnation_ = started.incarnation();
  fresh.world_ = started.world();
  fresh.config_ = started.config();
  fresh.config_digest_ = started.config_digest();
  fresh.build_ = started.build();
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
  *this = std::move(fresh);
}

absl::Status RunState::ApplyWorkerJoined(const WorkerJoined& joined) {
  if (joined.incarnation() != incarnation_) return Wrong("a worker of another incarnation");
  if (joined.rank() < 0 || joined.rank() >= world_) return Wrong("a rank outside of the world");
  Worker& worker = workers_[joined.rank()];
  if (worker.joined) return Wrong(absl::StrCat("rank ", joined.rank(), " joins twice"));
  worker.joined = true;
  worker.host = joined.host();
  worker.pid = joined.pid();
  ++present_;
  return absl::OkStatus();
}

absl::Status RunState::ApplyWorkerLeft(const WorkerLeft& left) {
  const auto found = workers_.find(left.rank());
  if (left.incarnation() != incarnation_ || found == workers_.end() || !found->second.left.empty()) {
    return Wrong(absl::StrCat("rank ", left.rank(), " leaves and is not there"));
  }
  found->second.left = left.why().empty() ? "done" : left.why();
  --present_;
  // Nobody leaves a run that goes on.
  if ((left.lost() || !stop_) && !loss_) loss_ = left;
  return absl::OkStatus();
}

absl::Status RunState::ApplyGranted(const Granted& granted) {
  if (granted.through_step() <= granted_through_ || granted.through_step() > final_step()) {
    return Wrong(absl::StrCat("a grant through step ", granted.through_step(), " after ", granted_through_));
  }
  granted_through_ = granted.through_step();
  return absl::OkStatus();
}

absl::Status RunState::ApplyEvaluated(const EvaluationResult& result) {
  if (absl::Status right = CheckEvaluation(result); !right.ok()) return Wrong(right.message());
  const Metric metric = config_.convergence().metric();
  evaluations_.push_back(result);
  if (LastIsBest(evaluations_, metric)) {
    best_step_ = result.step();
    best_value_ = MetricOf(result, metric);
    best_undecided_ = true;
  }
  return absl::OkStatus();
}

std::string RunState::CheckpointRule(int64_t step) const {
  if (step < start_step_ || step > granted_through_ || (step == start_step_ && resumed_from_)) return "";
  const std::string rule = schedule_->CheckpointRule(step);
  if (!rule.empty()) return rule;
  if (stop_ && !stop_->failure()) return "stop";
  return unconsumed_requests_ > 0 ? "request" : "";
}

absl::Status RunState::ApplyCheckpointDue(const CheckpointDue& due) {
  if (IsCheckpointDue(due.step())) return absl::OkStatus();
  const std::string rule = CheckpointRule(due.step());
  if (rule.empty()) return Wrong(absl::StrCat("nothing asks for a checkpoint at step ", due.step()));
  if (rule == "request") {
    --unconsumed_requests_;  // it was decided when it was requested
    AddDue(due.step());
  } else {
    due_undecided_ = due.step();
  }
  return absl::OkStatus();
}

void RunState::AddDue(int64_t step) {
  due_.insert(step);
  if (due_.size() > kMaxDue) due_.erase(due_.begin());
}

absl::Status RunState::ApplyCheckpointCommitted(const CheckpointCommitted& committed) {
  if (!IsCheckpointDue(committed.step())) {
    return Wrong(absl::StrCat("the checkpoint of step ", committed.step(), " was not decided"));
  }
  last_checkpoint_ = committed.step();
  due_.erase(due_.begin(), due_.upper_bound(committed.step()));
  request_pending_ = false;
  return absl::OkStatus();
}

absl::Status RunState::ApplyDecision(const Decision& decision) {
  if (decision.directive() != 0 && decision.directive() != NextDirective()) {
    return Wrong(absl::StrCat("directive ", decision.directive(), " where ", NextDirective(), " is next"));
  }
  if (decision.kind() == "checkpoint") return ApplyCheckpointDecision(decision);
  if (decision.kind() == "warning") {
    problem_.reset();
    return absl::OkStatus();
  }
  if (decision.kind() != "stop") return Wrong(absl::StrCat("a decision of unknown kind '", decision.kind(), "'"));
  if (stop_ && (stop_->failure() || !decision.failure())) return Wrong("a second stop");
  stop_ = decision;
  if (decision.directive() != 0) {
    Directive directive;
    directive.set_number(decision.directive());
    directive.mutable_stop()->set_rule(decision.rule());
    directives_.push_back(directive);
  }
  return absl::OkStatus();
}

absl::Status RunState::ApplyCheckpointDecision(const Decision& decision) {
  if (decision.rule() == "request") {
    if (decision.directive() == 0) return Wrong("a requested checkpoint without a directive");
    Directive directive;
    directive.set_number(decision.directive());
    directive.mutable_checkpoint();
    directives_.push_back(directive);
    request_undecided_.reset();
    request_pending_ = true;
    ++unconsumed_requests_;
    return absl::OkStatus();
  }
  AddDue(decision.step());
  if (decision.rule() == "best") {
    best_undecided_ = false;
  } else {
    due_undecided_.reset();
  }
  return absl::OkStatus();
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

absl::Status RunState::CheckCheckpointDue(int64_t step) const {
  if (IsCheckpointDue(step) || !CheckpointRule(step).empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("nothing asks for a checkpoint at step ", step));
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

double RunState::ElapsedAt(double time) const { return elapsed_before_ + std::max(0.0, time - started_time_); }

int RunState::ExitCode() const {
  if (!stop_ || stop_->failure()) return 1;
  if (stop_->signal()) return last_checkpoint_ >= 0 ? 3 : 1;
  return 0;
}

}  // namespace lockstep
