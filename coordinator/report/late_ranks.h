#pragma once

#include <array>
#include <vector>

#include "coordinator/report/step_model.h"

namespace lockstep {

// A rank that comes late step after step, in all stretches of the steps or in some. Late is what comes after at least
// half of the ranks, since of two halves that differ the slower one costs; by how much is against the ranks that are
// not late.
struct LateRank {
  int rank = 0;
  std::vector<double> late_s;               // by step of the model: typical of the stretch around it; 0: not late there
  std::array<double, kParts> by_part = {};  // sums over those steps: its own less the mean of those not late
};

// Ranks that are late by about as much in about the same steps: removing one of them alone saves nothing.
using LateGroup = std::vector<LateRank>;

// The latest first. A rank without a row in a step is taken not to be late in it: the last is always recorded.
std::vector<LateGroup> FindLateRanks(const std::vector<ModelStep>& model);

}  // namespace lockstep
