#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lockstep/telemetry.pb.h"
#include "worker/comm/collectives.h"
#include "worker/comm/comm_thread.h"
#include "worker/train/run_clock.h"

namespace lockstep {

// [begin, end) in nanoseconds of MonotonicNanos.
struct Interval {
  int64_t begin = 0, end = 0;
};

// The union of intervals, as disjoint ones in order.
std::vector<Interval> Merge(std::vector<Interval> intervals);
int64_t Length(const std::vector<Interval>& merged);
int64_t OverlapLength(const std::vector<Interval>& merged, const std::vector<Interval>& other_merged);

// The moments between a step's parts: each part ends where the next begins, so that nothing is left out or counted
// twice. Nanoseconds of MonotonicNanos.
struct StepMoments {
  int64_t start = 0;
  int64_t data = 0;      // the batch is here
  int64_t forward = 0;   // the loss is known
  int64_t backward = 0;  // every bucket has been handed over
  int64_t exposed = 0;   // communication is over
  int64_t optimizer = 0;
  int64_t end = 0;
  int64_t arrival = 0;  // the last bucket was handed over
  int64_t met = 0;      // it went on from a meeting in which no data travelled; 0: they did
  int64_t awaited = 0;  // no moment: how long of `exposed` it waited for others' parts of the update
};

// Fills in the record's times and collectives' figures. `spans`: the step's, in order of seq. `last_arrival`: of the
// rank that came last, on rank 0's clock. `previous_first_ns`: when the previous step's first collective began, 0 if
// there is none; it is set to this step's.
void FillTimes(const StepMoments& moments, const std::vector<Span>& spans, double last_arrival, const WallClock& wall,
               int64_t* previous_first_ns, StepRecord* record);

// Adds the record of every collective of `rank`, for a sampled step.
void FillCollectives(const std::vector<Span>& spans, int rank, const WallClock& wall, StepRecord* record);

}  // namespace lockstep
