#pragma once

#include <string>

#include "absl/types/span.h"

namespace lockstep {

// An array of a rank's own that has to be in a checkpoint, so that a run goes on as if nothing had happened. Names and
// sizes are the same on every rank.
struct RankState {
  std::string name;          // as in "residual"
  absl::Span<float> values;  // owned by whoever tells of it
  // What becomes of it when a run goes on with another number of ranks, each getting the same.
  enum class Share {
    kSum,   // what all ranks have together stays the same: an n-th of the sum each
    kMean,  // each gets the mean
    kSame,  // all ranks hold the same bits anyway; stored once
  };
  Share share = Share::kSum;
};

}  // namespace lockstep
