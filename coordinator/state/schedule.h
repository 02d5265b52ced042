#pragma once

#include <cstdint>

#include "common/data/plan.h"
#include "lockstep/control.pb.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

// When a run evaluates and takes its regular checkpoints, and where it ends: functions of the config and the plan.
class RunSchedule {
 public:
  RunSchedule(const RunConfig& config, const MinibatchPlan& plan);

  // min(max_epochs · steps per epoch, max_steps if there is one).
  int64_t final_step() const { return final_step_; }
  // Whether max_steps, and not max_epochs, is what ends the plan.
  bool ends_by_steps() const { return ends_by_steps_; }
  // Every evaluation.every_steps, or at each epoch's end if that is 0; and always at the final step.
  bool EvaluationDue(int64_t step) const;
  // "start", "epoch_end", "every_steps", or empty: nothing regular at this step.
  const char* CheckpointRule(int64_t step) const;

  // Whether a checkpoint of checkpoint.every_steps lies in (after, through].
  bool CheckpointDueBetween(int64_t after, int64_t through) const {
    return checkpoint_every_ > 0 && after >= 0 && through / checkpoint_every_ > after / checkpoint_every_;
  }

  // Fills in the events of steps (after, through]. A grant whose events would not fit into a message is cut short.
  Grant MakeGrant(int64_t after, int64_t through) const;

 private:
  // Three times as many fit into a message of 4 MiB, at ten bytes each.
  static constexpr int kMaxEvents = 131072;

  MinibatchPlan plan_;
  int64_t evaluate_every_, checkpoint_every_, final_step_;
  bool checkpoint_every_epoch_, ends_by_steps_;
};

// Seconds until the epoch's last step at `step_s` a step; negative: not known yet.
inline double EtaOfEpoch(int64_t steps_left, double step_s) { return step_s > 0 ? steps_left * step_s : -1; }

}  // namespace lockstep
