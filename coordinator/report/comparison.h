#pragma once

#include <string>
#include <vector>

#include "lockstep/report.pb.h"

namespace lockstep {

// The same figures of several runs side by side: the first is what the others are compared with. A change is beyond
// the runs' own spread if the 95% intervals of the two means, over the bins of their steps, do not overlap. `target`:
// the accuracy (or, where there is none, the loss) to which the time is told; NaN: the best that all have reached.
std::string ComparisonText(const std::vector<Report>& reports, double target);
std::string ComparisonJson(const std::vector<Report>& reports, double target);

}  // namespace lockstep
