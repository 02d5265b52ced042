#pragma once

#include "worker/comm/mpi.h"

namespace lockstep {

// The session of a test that runs under mpirun.
MpiSession& TestSession();

}  // namespace lockstep
