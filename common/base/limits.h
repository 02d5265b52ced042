#pragma once

namespace lockstep {

// Lets this process, and those that it starts, have as many open files as it may, up to 65536: many systems let a
// process have 1024 until it asks.
void RaiseOpenFiles();

}  // namespace lockstep
