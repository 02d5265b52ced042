// What follows from the state: RunState::Decide and the words of its reasons.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/state/convergence.h"
#include "coordinator/state/run_state.h"

namespace lockstep {
namespace {

Decision Make(const std::string& kind, const std::string& rule, int64_t step, const std::string& reason) {
  Decision decision;
  decision.set_kind(kind);
  decision.set_rule(rule);
  decision.set_step(step);
  decision.set_reason(reason);
  return decision;
}

std::string Seconds(double seconds) { return absl::StrFormat("%.1f s", seconds); }

}  // namespace

std::vector<Decision> RunState::Decide() const {
  std::vector<Decision> decisions;
  if (!started_ || ended_) return decisions;
  int64_t directive = NextDirective();
  if (problem_) decisions.push_back(Make("warning", problem_->rule(), problem_->step(), problem_->what()));
  if (best_undecided_) decisions.push_back(DecideBest());
  if (auto stop = DecideStop()) {
    if (stop->directive() != 0) ++directive;
    decisions.push_back(*stop);
  }
  if (request_undecided_) {
    decisions.push_back(Make("checkpoint", "request", request_undecided_->step(),
                             absl::StrCat("asked for by ", request_undecided_->by())));
    decisions.back().set_directive(directive++);
  }
  if (tuner_ && tuner_->next() && !stop_) {
    decisions.push_back(Make("buckets", "bucket_tuning", buckets_step_, tuner_->next()->reason));
    decisions.back().set_directive(directive);
  }
  if (due_undecided_) decisions.push_back(DecideDue(*due_undecided_));
  return decisions;
}

Decision RunState::DecideBest() const {
  const Metric metric = config_.convergence().metric();
  const absl::Span<const EvaluationResult> before(evaluations_.data(), evaluations_.size() - 1);
  const int second = BestEvaluation(before, metric);
  const std::string figure = absl::StrCat(MetricWord(metric), " ", FormatFigure(best_value_));
  const std::string reason =
      second < 0 ? absl::StrCat(figure, " is the first")
                 : absl::StrCat(figure, " is better than ", FormatFigure(MetricOf(before[second], metric)), " at step ",
                                before[second].step());
  return Make("checkpoint", "best", best_step_, reason);
}

Decision RunState::DecideDue(int64_t step) const {
  const std::string rule = CheckpointRule(step);
  std::string reason;
  if (rule == "start") {
    reason = "the initial weights";
  } else if (rule == "epoch_end") {
    reason = absl::StrCat("the end of epoch ", plan_->EpochOf(step) + 1);
  } else if (rule == "every_steps") {
    reason = absl::StrCat("every ", config_.checkpoint().every_steps(), " steps");
  } else {
    reason = absl::StrCat("before the stop by ", stop_->rule());
  }
  return Make("checkpoint", rule, step, reason);
}

bool RunState::OnlyMissingArePresent() const {
  for (const auto& [rank, worker] : workers_) {
    if (!worker.left.empty()) continue;
    if (!failure_ || std::count(failure_->about().begin(), failure_->about().end(), rank) == 0) return false;
  }
  return true;
}

// A rank says who is missing; where that one runs is known here.
std::string RunState::WhereAre(const Failed& failed) const {
  std::string where;
  for (const int rank : failed.about()) {
    const auto found = workers_.find(rank);
    if (found == workers_.end()) continue;
    absl::StrAppend(&where, where.empty() ? "; " : ", ", "rank ", rank, where.empty() ? " is on " : " on ",
                    found->second.host, " (pid ", found->second.pid, ")");
  }
  return where;
}

std::optional<Decision> RunState::DecideFailure() const {
  std::optional<Decision> stop;
  if (failure_ && failure_->non_finite()) {
    stop = Make("stop", "non_finite", failure_->step(),
                absl::StrCat("loss is not finite at step ", failure_->step(), " on rank ", failure_->rank(),
                             failure_->what().empty() ? "" : ": ", failure_->what()));
  } else if (failure_) {
    const bool somebodys = failure_->rank() >= 0 && !failure_->bad_input();
    const std::string who =
        somebodys ? absl::StrCat("rank ", failure_->rank(), " failed at step ", failure_->step(), ": ") : "";
    stop = Make("stop", "failure", failure_->step(), absl::StrCat(who, failure_->what(), WhereAre(*failure_)));
  } else if (loss_) {
    const Worker& worker = workers_.at(loss_->rank());
    stop = Make("stop", "worker_lost", loss_->step(),
                absl::StrCat("rank ", loss_->rank(), " on ", worker.host, " (pid ", worker.pid, ") ",
                             loss_->lost() ? "was lost: " : "left before the run's end: ", worker.left));
  }
  if (stop) stop->set_failure(true);
  return stop;
}

std::optional<Decision> RunState::StopAtPlansEnd() const {
  const bool evaluated = !evaluations_.empty() && evaluations_.back().step() >= final_step();
  if (!evaluated && start_step_ < final_step()) return std::nullopt;
  const int64_t step = std::max(start_step_, final_step());
  if (schedule_->ends_by_steps()) {
    return Make("stop", "max_steps", step,
                absl::StrCat("step ", step, " of max_steps ", config_.convergence().max_steps(), " is done"));
  }
  return Make("stop", "max_epochs", step,
              absl::StrCat("epoch ", plan_->EpochOf(step) + 1, " of max_epochs ", config_.convergence().max_epochs(),
                           " is done, at step ", step));
}

std::optional<Decision> RunState::DecideStop() const {
  if (failed()) return std::nullopt;
  if (auto failure = DecideFailure()) return failure;
  if (stop_) return std::nullopt;
  // A worker that waits for a verdict is told by it; the others by a directive.
  if (auto stop = StopByEvaluations(evaluations_, config_.convergence())) return stop;
  if (auto stop = StopAtPlansEnd()) return stop;
  std::optional<Decision> stop;
  if (time_reached_) {
    stop = Make("stop", "max_time", time_reached_->step(),
                absl::StrCat(Seconds(time_reached_->seconds()), " of max_time ",
                             Seconds(config_.convergence().max_time()), " have passed"));
  } else if (stop_requested_) {
    stop = Make("stop", stop_requested_->signal() ? "signal" : "request", stop_requested_->step(),
                absl::StrCat("asked for by ", stop_requested_->by()));
    stop->set_signal(stop_requested_->signal());
  }
  if (stop) stop->set_directive(NextDirective());
  return stop;
}

}  // namespace lockstep
