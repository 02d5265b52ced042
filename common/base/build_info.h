#pragma once

#include <string>

namespace lockstep {

// Release and source revision, as "0.1.0+3f2a9c1"; worker and coordinator must have the same.
std::string BuildVersion();

}  // namespace lockstep
