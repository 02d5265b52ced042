#include "common/trace/clock_offset.h"

#include <algorithm>

namespace lockstep {

// Trips of one moment are not at quite the same time: their bounds are moved to the last one's by the most that the
// offset may have gone.
void ClockOffset::Narrow(const ClockTrip& trip, Moment* moment) {
  double low = static_cast<double>(trip.answered_ns - trip.received_ns);
  double high = static_cast<double>(trip.answered_ns - trip.sent_ns);
  if (high < low) return;  // the own clock was set back meanwhile
  if (moment->trips++ > 0) {
    const double moved = kMostDrift * static_cast<double>(trip.received_ns - moment->at_ns);
    const double both_low = std::max(low, moment->low - moved), both_high = std::min(high, moment->high + moved);
    if (both_low <= both_high) {  // else a clock was set meanwhile: what came before is of no use
      low = both_low;
      high = both_high;
    }
  }
  moment->low = low;
  moment->high = high;
  moment->at_ns = trip.received_ns;
}

void ClockOffset::Add(const Moment& moment) {
  moments_.push_back(moment);
  if (moments_.size() > kMoments) moments_.pop_front();
  for (FindDrift(); least_ > most_; FindDrift()) moments_.pop_front();
}

// A line that keeps within the bounds of two moments can rise no more than from the first one's low to the second one's
// high, and no less than from high to low; one within all bounds is there if the slopes of all pairs allow one (Helly).
void ClockOffset::FindDrift() {
  least_ = -kMostDrift;
  most_ = kMostDrift;
  for (size_t later = 1; later < moments_.size(); ++later) {
    const Moment& b = moments_[later];
    for (size_t earlier = 0; earlier < later; ++earlier) {
      const Moment& a = moments_[earlier];
      const double passed = static_cast<double>(std::max<int64_t>(1, b.at_ns - a.at_ns));
      least_ = std::max(least_, (b.low - a.high) / passed);
      most_ = std::min(most_, (b.high - a.low) / passed);
    }
  }
}

ClockOffset::Estimate ClockOffset::At(int64_t own_ns) const {
  if (moments_.empty()) return Estimate();
  const auto since = [own_ns](const Moment& m) { return static_cast<double>(std::max<int64_t>(0, own_ns - m.at_ns)); };
  double low = moments_.front().low + least_ * since(moments_.front());
  double high = moments_.front().high + most_ * since(moments_.front());
  for (const Moment& moment : moments_) {
    low = std::max(low, moment.low + least_ * since(moment));
    high = std::min(high, moment.high + most_ * since(moment));
  }
  return {(low + high) / 2, (high - low) / 2, (least_ + most_) / 2, (most_ - least_) / 2};
}

}  // namespace lockstep
