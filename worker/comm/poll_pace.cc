#include "worker/comm/poll_pace.h"

#include <sched.h>

namespace lockstep {

void PauseBetweenPolls(int64_t idle_polls) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
  if (idle_polls % 16 == 0) sched_yield();
}

}  // namespace lockstep
