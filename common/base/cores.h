#pragma once

namespace lockstep {

// The cores that this process may run on, at least 1. Of a machine with more than 1024 it is CPU_SETSIZE.
int UsableCores();

}  // namespace lockstep
