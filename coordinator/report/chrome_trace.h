#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "coordinator/state/rows.h"

namespace lockstep {

// Spans of sampled steps as Chrome's trace format has them, which Perfetto opens: JSON, one process a rank, one thread
// for each of trainer, communication and input (more where collectives run side by side, since the events of a thread
// have to nest), and for every collective a flow through its slices on all ranks, in the order in which they arrived.
// Times are microseconds since the first span. `hosts`: by rank.
// https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
std::string ChromeTrace(const std::vector<SpanRow>& spans, const std::map<int, std::string>& hosts);

}  // namespace lockstep
