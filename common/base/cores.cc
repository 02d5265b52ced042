#include "common/base/cores.h"

#include <sched.h>

#include <algorithm>

namespace lockstep {

int UsableCores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return CPU_SETSIZE;  // there are more
  return std::max(1, CPU_COUNT(&cores));
}

}  // namespace lockstep
