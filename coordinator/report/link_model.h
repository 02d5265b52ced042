#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "coordinator/state/rows.h"

namespace lockstep {

// What a link costs a message: seconds = latency + bytes / bandwidth (Hockney 1994), fitted to messages that
// collectives sent anyway. Pure.
//
// Messages that leave a host, or come to one, at the same time share its port, so a message's time is that of all bytes
// that went through both its ends' ports then: of the others as much as lies within it, each taken to flow evenly;
// where the ports differ, what the emptier one carried.
//
// A link is taken for a queue: a message is under way from when its sender has handed it over and the one before it has
// come. One that finds the link idle pays the latency; one that queues behind another pays for its bytes alone.

// A message of a step over one link.
struct LinkSample {
  int64_t step = 0;
  bool alone = false;  // it found the link idle
  double bytes = 0, seconds = 0;
  double begin = 0;  // when it was under way, on rank 0's clock
};
// `messages`: of one step over one link, of any collectives. Those whose sender is not known, and those that may have
// come before their receiver had made room for them, tell only that the link was busy. `ends`: of the step's
// collectives, by seq; of a collective its first messages are on record, so that from the last of them until it has
// ended something else may be on the link.
std::vector<LinkSample> QueueOf(std::vector<MessageRow> messages, const std::map<int, double>& ends = {});

// From host to host, by number.
using HostPair = std::pair<int, int>;
// Adds to each sample's bytes what else went through the ports of its ends in its time. `samples`: of one step, by
// link.
void AddOthersBytes(std::map<HostPair, std::vector<LinkSample>>* samples);

struct LinkFit {
  double latency_s = 0;  // NaN: no message found the link idle
  double bandwidth = 0;  // bytes/s
  // Half of the 95% intervals, by how far the steps' own estimates are from each other; NaN: too few steps.
  double latency_error_s = 0, bandwidth_error = 0;
};
// The medians of what the steps tell one by one, since single messages may wait for anything. Unset: none tells it.
std::optional<LinkFit> FitLink(const std::vector<LinkSample>& samples);

}  // namespace lockstep
