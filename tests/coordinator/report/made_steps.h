#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "common/base/stable_random.h"
#include "coordinator/report/anatomy.h"

namespace lockstep {

// Steps of `ranks` ranks that meet in each, in milliseconds: 1 of data, 10 forward, 20 backward, 2 of the update, each
// give or take `noise` of it, and 3 of transfer; `fault` changes what a rank does before it comes.
using Fault = std::function<void(int64_t step, RankTimes* rank)>;
inline std::vector<StepTimes> Steps(
    int ranks, int count, const Fault& fault = [](int64_t, RankTimes*) {}, double transfer_ms = 3,
    double noise = 0.03) {
  StableRandom random(7);
  std::vector<StepTimes> steps;
  for (int64_t number = 1; number <= count; ++number) {
    StepTimes& step = steps.emplace_back();
    step.step = number;
    step.incarnation = 1;
    for (int rank = 0; rank < ranks; ++rank) {
      RankTimes& times = step.ranks.emplace_back();
      times.rank = rank;
      const auto about = [&](double ms) { return 1e-3 * ms * (1 + noise * random.Normal()); };
      times.parts[kDataWait] = about(1);
      times.parts[kForward] = about(10);
      times.parts[kBackward] = about(20);
      times.parts[kOptimizer] = about(2);
      fault(number, &times);
    }
    const std::vector<double> waits = WaitsOf(steps, steps.size() - 1);
    for (int rank = 0; rank < ranks; ++rank) {
      step.ranks[rank].parts[kCommExposed] = ranks == 1 ? 0 : waits[rank] + 1e-3 * transfer_ms;
    }
  }
  return steps;
}

inline Fault Late(int rank, Part part, double ms) {
  return [=](int64_t, RankTimes* times) {
    if (rank == -1 || times->rank == rank) times->parts[part] += 1e-3 * ms;
  };
}

inline double MeanStep(const std::vector<StepTimes>& steps) {
  double sum = 0;
  for (const StepTimes& step : steps) sum += step.ranks[0].step();
  return sum / static_cast<double>(steps.size());
}

// One of all ranks at random in a share of the steps: as it happens one has more of them for a while.
inline Fault Jitter(uint64_t seed, int ranks, double share, double ms, int64_t first = 1, int64_t last = INT64_MAX) {
  return [=](int64_t step, RankTimes* times) {
    StableRandom random(Mix({seed, static_cast<uint64_t>(step)}));
    const auto rank = static_cast<int>(random.Below(static_cast<uint64_t>(ranks)));
    if (step < first || step > last || rank != times->rank || random.Uniform() >= share) return;
    times->parts[kBackward] += 1e-3 * ms;
  };
}

}  // namespace lockstep
