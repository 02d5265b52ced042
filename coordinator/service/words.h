#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace lockstep {

// What others say, fit to be kept: at most 1000 bytes, and valid UTF-8, since a protobuf with anything else cannot be
// read back (a path may hold any byte). What is not valid becomes '?'.
std::string Words(absl::string_view said);

// "120 s".
std::string InSeconds(absl::Duration duration);

}  // namespace lockstep
