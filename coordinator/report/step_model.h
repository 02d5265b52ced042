#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

namespace lockstep {

// The model of a step: every rank works alone until it arrives at the step's reduction, the last arrival begins the
// transfer that nobody's computing hides, and after it all go on:
//
//   step = max over ranks of work + transfer      work: all of the rank's time since the last reduction but what it
//                                                 stood still for communication; transfer: what the rank that waits
//                                                 least stood still
//
// That is exact where all are let go at once. Ranks that send ahead are not: one that comes late finds what the others
// have sent already and is let go before them, which makes up for some of it in the next step. So where the ranks'
// clocks tell, work counts from when the last rank was let go, and transfer ends there: the same sum, over one clock.
//
// Ranks that wait for each other's update as well, since each makes a part of it (`shared`, of a host's ranks
// `hierarchical`) or since all parameters are averaged after it (local SGD), begin what follows when the last of them
// is done with it, and come so much later to the next reduction:
//
//   step = max over ranks of (work + the last update of those that it waits for) + transfer
//
// How long an update is counts from when the first of them begins its own: what ranks update while parts of the
// gradient are still on their way (`hierarchical`) is transfer for all of them. So it follows from how long each waited
// for the last, where that is on record. What goes beyond a rank's own update is the exchange that it does for its
// host: transfer.

// The parts of a step, as telemetry.proto has them.
enum Part { kDataWait, kForward, kBackward, kCommExposed, kOptimizer, kOther, kParts };
const char* PartName(int part);  // data_wait

using Parts = std::array<double, kParts>;  // seconds

// Of a rank in a step, seconds.
struct RankTimes {
  int rank = 0;
  Parts parts = {};
  Parts local = {};                   // of `parts`: in the steps of a series before the one in which the ranks meet
  double start = 0;                   // of the step, on rank 0's clock; 0: not known
  const std::string* host = nullptr;  // its name; null: not known
  int updates_with = -1;              // of ranks that wait for each other's update, the same; -1: waits for nobody's
  double update_wait = -1;            // for the last of them; -1: not on record
  bool had_data = false;              // a batch lay ready when it asked for one
  double compute() const { return parts[kForward] + parts[kBackward] + parts[kOptimizer]; }
  double step() const { return std::accumulate(parts.begin(), parts.end(), 0.0); }
  double at_meeting(Part part) const { return parts[part] - local[part]; }
  // To the reduction.
  double came() const {
    return start + std::accumulate(local.begin(), local.end(), 0.0) + at_meeting(kDataWait) + at_meeting(kForward) +
           at_meeting(kBackward);
  }
  // To go on: by the reduction, or by the last of those for whose update it waits.
  double let_go() const { return came() + at_meeting(kCommExposed) + (updates_with < 0 ? 0 : at_meeting(kOptimizer)); }
};
struct StepTimes {
  int64_t step = 0;
  int incarnation = 0;
  std::vector<RankTimes> ranks;  // by rank; of all that are recorded
  double clock_error_s = 0;      // bound on their starts' errors
  bool meets = true;             // false: of local SGD, without a word between the ranks
  int64_t count = 1;             // steps in it, `step` the last of them
};

// Local steps put together with the step in which the ranks meet after them, one after the other of one launch; where
// such a series has no beginning or no end in `steps` it is left out. Where they always meet: the same steps.
std::vector<StepTimes> Meetings(const std::vector<StepTimes>& steps);

// A step as the model sees it; the ranks' values in the order of `times->ranks`.
struct ModelStep {
  const StepTimes* times = nullptr;
  std::vector<Parts> parts;       // each rank's own since the last reduction, but for the update below …
  std::vector<double> work;       // … in all
  std::vector<double> update;     // after the last reduction, where others wait for it; else 0
  std::vector<double> own;        // when each came, after the last reduction and what it waited for updates; the same
                                  // as `work` where no clock tells
  std::vector<double> data_wait;  // of that
  double transfer = 0;

  // By rank: when the last of those that it waits for was done with the update.
  std::vector<double> updated() const;
  // When each came, after the last reduction.
  std::vector<double> ready() const;
  double longest() const;
  double seconds() const { return longest() + transfer; }  // of the step
};
// Without the steps that have no ranks on record. `steps` outlives it.
std::vector<ModelStep> ModelOf(const std::vector<StepTimes>& steps);

// By each rank's own clock: how long it waits for the others in `steps[i]`; in the order of its ranks.
std::vector<double> WaitsOf(const std::vector<StepTimes>& steps, size_t i);

}  // namespace lockstep
