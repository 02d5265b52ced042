#pragma once

#include <cstdint>
#include <vector>

#include "lockstep/run_config.pb.h"

namespace lockstep {

// The delays that a config puts into the parts of the step (`inject`), for one rank.
class Delays {
 public:
  Delays(const RunConfig& config, int rank);
  // Sleeps for what is asked for in this part of this step; nothing nearly always.
  void Hold(StepPart part, int64_t step) const;

 private:
  std::vector<Inject> mine_;
};

}  // namespace lockstep
