#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace lockstep {

// What others say, fit to be kept: at most 1000 bytes, and valid UTF-8, since a protobuf with anything else cannot be
// read back (a path may hold any byte). What is not valid becomes '?'.
std::string Words(absl::string_view said);

}  // namespace lockstep
