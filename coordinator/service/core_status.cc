// What people are shown.
#include <algorithm>
#include <cmath>
#include <utility>

#include "coordinator/service/core.h"
#include "coordinator/state/convergence.h"

namespace lockstep {
namespace {

// So many workers fit into a message of 4 MiB.
constexpr int kMaxWorkersShown = 10000;

}  // namespace

void Core::HoldEpochLine(const EpochDone& done) {
  if (epoch_line_) EmitEpochLine(nullptr);
  EpochLine line;
  line.set_epoch(done.epoch());
  line.set_step((done.epoch() + int64_t{1}) * state_.plan().steps_per_epoch());
  line.set_seconds(done.seconds());
  line.set_loss(done.loss());
  line.set_exposed_fraction(done.exposed_fraction());
  if (done.seconds() > 0) line.set_samples_per_s(done.samples() / done.seconds());
  epoch_line_ = std::move(line);
  if (!state_.EvaluationDue(epoch_line_->step())) EmitEpochLine(nullptr);
}

void Core::EmitEpochLine(const EvaluationResult* evaluation) {
  EpochLine line = *std::exchange(epoch_line_, std::nullopt);
  if (evaluation != nullptr) *line.mutable_evaluation() = *evaluation;
  events_.Add(Now(), line);
}

const char* Core::Phase(int64_t step) const {
  if (ended_) return "ended";
  if (state_.stop()) return "stopping";
  const bool evaluated = !state_.evaluations().empty() && state_.evaluations().back().step() >= step;
  if (step > state_.start_step() && state_.EvaluationDue(step) && !evaluated) return "evaluating";
  return step > state_.start_step() ? "training" : "starting";
}

StatusReply Core::GetStatus(int64_t after_event) {
  StatusReply reply;
  reply.set_folder(options_.folder);
  MutexLock lock(&mutex_);
  events_.CopyTo(after_event, reply.mutable_events());
  if (incarnation_ == 0) {
    reply.set_phase("starting");
    reply.set_best_step(-1);
    reply.set_last_checkpoint(-1);
    reply.set_eta_epoch_s(-1);
    return reply;
  }
  DescribeProgress(&reply);
  DescribeWorkers(&reply);
  reply.set_name(state_.config().run().name());
  reply.set_incarnation(state_.incarnation());
  reply.set_granted_through(state_.granted_through());
  reply.set_elapsed_s(ended_ ? state_.ElapsedAt(0) + ended_->seconds() : state_.ElapsedAt(Now()));
  if (!state_.evaluations().empty()) *reply.mutable_last_evaluation() = state_.evaluations().back();
  reply.set_best_step(state_.best_step());
  reply.set_best_value(state_.best_value());
  reply.set_metric(MetricWord(state_.config().convergence().metric()));
  reply.set_last_checkpoint(state_.last_checkpoint());
  if (state_.stop()) *reply.mutable_stop() = *state_.stop();
  if (ended_) reply.set_exit_code(ended_->exit_code());
  return reply;
}

void Core::DescribeProgress(StatusReply* reply) {
  const StepFold::Recent recent = recorder_->recent();
  const MinibatchPlan& plan = state_.plan();
  const int64_t step = std::max(recent.step, state_.start_step());
  reply->set_phase(Phase(step));
  reply->set_step(step);
  reply->set_final_step(state_.final_step());
  reply->set_epoch(step > 0 ? plan.EpochOf(step) : 0);
  reply->set_epochs(state_.config().convergence().max_epochs());
  reply->set_epoch_step(step > 0 ? plan.EpochStepOf(step) : 0);
  reply->set_steps_per_epoch(plan.steps_per_epoch());
  reply->set_loss(recent.loss);
  reply->set_samples_per_s(recent.samples_per_s);
  reply->set_exposed_fraction(recent.exposed_fraction);
  reply->set_step_s(recent.step_s);
  const int64_t epoch_ends = (reply->epoch() + int64_t{1}) * plan.steps_per_epoch();
  reply->set_eta_epoch_s(EtaOfEpoch(std::min(epoch_ends, state_.final_step()) - step, recent.step_s));
}

void Core::DescribeWorkers(StatusReply* reply) {
  const absl::Duration now = options_.clock->Monotonic();
  for (int rank = 0; rank < std::min(state_.world(), kMaxWorkersShown); ++rank) {
    WorkerStatus* shown = reply->add_workers();
    shown->set_rank(rank);
    const auto found = state_.workers().find(rank);
    if (found == state_.workers().end()) continue;
    shown->set_joined(true);
    shown->set_host(found->second.host);
    shown->set_pid(found->second.pid);
    shown->set_left(found->second.left);
    shown->set_step(pulses_[rank].step.load(std::memory_order_relaxed));
    const absl::Duration heard = absl::Nanoseconds(pulses_[rank].heard_ns.load(std::memory_order_relaxed));
    if (found->second.left.empty()) shown->set_silent_s(absl::ToDoubleSeconds(now - heard));
  }
}

}  // namespace lockstep
