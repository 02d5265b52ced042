#include "common/base/build_info.h"

#include "build_id.inc"

namespace lockstep {

std::string BuildVersion() { return kBuildId; }

}  // namespace lockstep
