#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

// A fault as people write it, `lockstep run --inject`:
//
//   slow-rank=R:20ms    rank R computes so much longer
//   jitter=20ms         so does one rank a step, drawn anew
//   slow-input=R:20ms   a batch of rank R takes so much longer
//   compute=R:x1.5      computing takes so many times as long
//   backward=R:20ms     so does any part of a step, by its name
//   clock=R:5s:50ppm    R's clock is ahead, and gains
//   unmeasured          nothing is recorded
//
// Without R: all ranks. With @A-B, or @A-, at the end: from step A to step B alone. InvalidArgument says what is wrong.
absl::StatusOr<std::vector<Inject>> ParseInject(const std::string& text);
// "inject=[…]", as --set takes it: all of these in place of those of the config.
absl::StatusOr<std::string> InjectOverride(const std::vector<std::string>& texts);
// The same back, for people: "backward=1:20ms@100-200".
std::string InjectText(const Inject& inject);

}  // namespace lockstep
