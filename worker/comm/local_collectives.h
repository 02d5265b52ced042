#pragma once

#include <memory>

#include "worker/comm/collectives.h"

namespace lockstep {

// A world of one: every operation is done at its first Poll.
std::unique_ptr<Collectives> NewLocalCollectives();

}  // namespace lockstep
