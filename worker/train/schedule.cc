#include <algorithm>
#include <cmath>

#include "worker/train/span_optimizer.h"

namespace lockstep {

double LearningRate(const RunConfig& config, int64_t steps_per_epoch, int64_t step) {
  const Schedule& schedule = config.schedule();
  const double lr = config.optimizer().lr();
  const auto done = static_cast<double>(step - 1);
  const auto warmup = static_cast<double>(schedule.warmup_steps());
  if (done < warmup) return lr * (done + 1) / warmup;

  const double decay_steps = schedule.decay_epochs() * static_cast<double>(steps_per_epoch);
  const double progress = decay_steps > warmup ? std::min(1.0, (done - warmup) / (decay_steps - warmup)) : 1.0;
  switch (schedule.name()) {
    case SCHEDULE_NAME_STEP:
      return decay_steps > 0 ? lr * std::pow(schedule.gamma(), std::floor(done / decay_steps)) : lr;
    case SCHEDULE_NAME_COSINE:
      return schedule.min_lr() + (lr - schedule.min_lr()) * 0.5 * (1 + std::cos(M_PI * progress));
    case SCHEDULE_NAME_LINEAR:
      return lr + (schedule.min_lr() - lr) * progress;
    default:
      return lr;
  }
}

}  // namespace lockstep
