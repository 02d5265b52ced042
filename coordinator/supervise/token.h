#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace lockstep {

// The environment variable that carries a run's token to the coordinator and the workers. Never an argument: those can
// be read by every user of the machine.
inline constexpr char kTokenVariable[] = "LOCKSTEP_TOKEN";

// 32 random bytes from the kernel as 64 hexadecimal digits.
absl::StatusOr<std::string> MakeToken();

}  // namespace lockstep
