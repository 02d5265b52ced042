#include "coordinator/state/schedule.h"

#include <limits>

namespace lockstep {
namespace {

int64_t SaturatingProduct(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<int64_t>::max() : product;
}

}  // namespace

RunSchedule::RunSchedule(const RunConfig& config, const MinibatchPlan& plan)
    : plan_(plan),
      evaluate_every_(config.evaluation().every_steps()),
      checkpoint_every_(config.checkpoint().every_steps()),
      final_step_(SaturatingProduct(config.convergence().max_epochs(), plan.steps_per_epoch())),
      checkpoint_every_epoch_(config.checkpoint().every_epoch()),
      ends_by_steps_(false) {
  const int64_t max_steps = config.convergence().max_steps();
  if (max_steps > 0 && max_steps < final_step_) {
    final_step_ = max_steps;
    ends_by_steps_ = true;
  }
}

bool RunSchedule::EvaluationDue(int64_t step) const {
  if (step <= 0) return false;
  if (step == final_step_) return true;
  return evaluate_every_ > 0 ? step % evaluate_every_ == 0 : plan_.IsLastOfEpoch(step);
}

const char* RunSchedule::CheckpointRule(int64_t step) const {
  if (step < 0) return "";
  if (step == 0) return "start";
  if (checkpoint_every_epoch_ && plan_.IsLastOfEpoch(step)) return "epoch_end";
  if (checkpoint_every_ > 0 && step % checkpoint_every_ == 0) return "every_steps";
  return "";
}

Grant RunSchedule::MakeGrant(int64_t after, int64_t through) const {
  Grant grant;
  grant.set_first_step(after + 1);
  grant.set_final_step(final_step_);
  int64_t step = after;
  while (step < through && grant.evaluate_at_size() + grant.checkpoint_at_size() < kMaxEvents) {
    ++step;
    if (EvaluationDue(step)) grant.add_evaluate_at(step);
    if (*CheckpointRule(step) != '\0') grant.add_checkpoint_at(step);
  }
  grant.set_through_step(step);
  return grant;
}

}  // namespace lockstep
