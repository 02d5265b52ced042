#pragma once

#include <cstdint>
#include <set>

#include "lockstep/control.pb.h"

namespace lockstep {

// What a rank has been granted so far: how far it may go, what is due on the way, and when to ask for more. Pure.
class GrantBook {
 public:
  // Grants may come twice or overlap.
  void Add(const Grant& grant);

  int64_t through() const { return through_; }
  int64_t final_step() const { return final_step_; }
  bool EvaluationDue(int64_t step) const { return evaluate_at_.count(step) > 0; }
  bool CheckpointDue(int64_t step) const { return checkpoint_at_.count(step) > 0; }

  // The step with whose completion half of the latest grant is used up; the largest number when there is nothing to
  // ask for: all is granted, or it has been asked for.
  int64_t AskAt() const;
  // To be asked for: everything beyond the return value.
  int64_t Ask() { return asked_ = through_; }
  // What was due before `step` is of the past.
  void Forget(int64_t step);

 private:
  int64_t first_ = 0;
  int64_t through_ = -1;
  int64_t final_step_ = 0;
  int64_t asked_ = -1;
  std::set<int64_t> evaluate_at_, checkpoint_at_;
};

}  // namespace lockstep
