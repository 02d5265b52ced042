#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

namespace lockstep {

// A question to another clock and its answer, nanoseconds: sent and received on the own clock, answered on the other.
struct ClockTrip {
  int64_t sent_ns = 0, answered_ns = 0, received_ns = 0;
};

// How another clock stands to the own one: offset and drift, each with a bound on its error.
//
// The answer was given between sending and receiving, so every trip bounds the offset from both sides; the trips of one
// moment together bound it by those that were delayed least. Over several moments the offset is taken as a straight
// line that keeps within all bounds (Duda, Harrus, Haddad, Bernard: Estimating global time in distributed systems,
// 1987): the slopes that do bound the drift, and with it how far the offset may have gone since. Clocks do not gain
// more than kMostDrift on each other: what Linux corrects a clock by at most. Where no line keeps within the bounds, as
// a drift does change with temperature, the oldest are forgotten.
//
// Pure, not thread-safe.
class ClockOffset {
 public:
  static constexpr double kMostDrift = 2 * 500e-6;  // both clocks may be corrected, against each other

  // Trips of one moment, after all that came before.
  template <typename Trips>
  void Learn(const Trips& trips) {
    Moment moment;
    for (const ClockTrip& trip : trips) Narrow(trip, &moment);
    if (moment.trips > 0) Add(moment);
  }

  struct Estimate {
    double offset_ns = 0;  // to be added to the own clock …
    double error_ns = 0;   // … give or take
    double drift = 0;      // that the offset gains a nanosecond
    double drift_error = kMostDrift;
  };
  // At a time on the own clock, not before what was learnt last. Nothing was learnt: all 0.
  Estimate At(int64_t own_ns) const;
  bool empty() const { return moments_.empty(); }

 private:
  struct Moment {
    int64_t at_ns = 0;         // on the own clock: the last trip's end
    double low = 0, high = 0;  // of the offset then
    int trips = 0;
  };
  static constexpr size_t kMoments = 16;
  static void Narrow(const ClockTrip& trip, Moment* moment);
  void Add(const Moment& moment);
  void FindDrift();

  std::deque<Moment> moments_;                      // in order
  double least_ = -kMostDrift, most_ = kMostDrift;  // drift
};

}  // namespace lockstep
