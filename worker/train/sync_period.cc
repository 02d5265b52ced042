#include "worker/train/sync_period.h"

#include <algorithm>
#include <cmath>

namespace lockstep {

int64_t PeriodAt(const Communication& config, int64_t step, int64_t now) {
  switch (config.period_rule()) {
    case PERIOD_RULE_POST_LOCAL:
      return step <= config.post_local_steps() ? 1 : config.period();
    case PERIOD_RULE_ADAPTIVE:
      return now > 0 ? now : config.period();
    default:
      return config.period();
  }
}

int64_t NextPeriod(int64_t first_period, double first_loss, double loss, int64_t now) {
  const double ratio = loss / first_loss;
  if (!std::isfinite(ratio) || ratio <= 0) return now;
  const auto by_loss = static_cast<int64_t>(std::ceil(static_cast<double>(first_period) * std::sqrt(ratio)));
  return std::max<int64_t>(1, by_loss < now ? by_loss : now / 2);
}

}  // namespace lockstep
