#include "worker/coordinator_client/grant_book.h"

#include <limits>

namespace lockstep {

void GrantBook::Add(const Grant& grant) {
  final_step_ = grant.final_step();
  evaluate_at_.insert(grant.evaluate_at().begin(), grant.evaluate_at().end());
  checkpoint_at_.insert(grant.checkpoint_at().begin(), grant.checkpoint_at().end());
  if (grant.through_step() <= through_) return;
  first_ = grant.first_step();
  through_ = grant.through_step();
}

int64_t GrantBook::AskAt() const {
  if (through_ >= final_step_ || asked_ == through_) return std::numeric_limits<int64_t>::max();
  return through_ - (through_ - first_ + 1) / 2;
}

void GrantBook::Forget(int64_t step) {
  evaluate_at_.erase(evaluate_at_.begin(), evaluate_at_.lower_bound(step));
  checkpoint_at_.erase(checkpoint_at_.begin(), checkpoint_at_.lower_bound(step));
}

}  // namespace lockstep
