#pragma once

namespace lockstep {

// The cores that this process may run on, at least 1: those it is bound to, or as many as a control group's quota comes
// to (a container's --cpus), rounded up, if that is fewer. Of a machine with more than 1024 it is CPU_SETSIZE.
int UsableCores();

// Those of them that are cores of their own: where two share their arithmetic (hyper-threads) they count as one. At
// least 1.
int PhysicalCores();

}  // namespace lockstep
