#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "coordinator/state/rows.h"

namespace lockstep {

// What a link costs a message: seconds = latency + bytes / bandwidth (Hockney 1994), fitted to messages that collectives
// sent anyway. Pure.
//
// A link is taken for a queue: a message is under way once its sender has handed it over, its receiver has made room and
// the one before it has come. One that finds the link idle pays the latency; those that queue behind it pay for their
// bytes alone.

// Messages of one collective over one link.
struct LinkSample {
  int64_t step = 0;
  double alone = 0;    // messages that found the link idle
  double bytes = 0;    // of all of them
  double seconds = 0;  // in which one of them was under way
  int64_t messages = 0;
};
// `messages`: of one step over one link, of any collectives. Those whose sender is not known only end a wait.
std::vector<LinkSample> QueueOf(std::vector<MessageRow> messages);

struct LinkFit {
  double latency_s = 0;  // NaN: the samples do not tell it from the bandwidth
  double bandwidth = 0;  // bytes/s
  // Half of the 95% intervals, by leaving out a tenth of the steps at a time (jackknife); NaN: too few steps.
  double latency_error_s = 0, bandwidth_error = 0;
};
// Least squares of relative residuals, without outliers. Unset: no fit makes sense.
std::optional<LinkFit> FitLink(const std::vector<LinkSample>& samples);

}  // namespace lockstep
