#pragma once

#include <cstdint>

#include "lockstep/run_config.pb.h"

namespace lockstep {

// Steps from one synchronisation to the next (H), by communication.period and its rule. Values in, values out: all
// ranks know them alike, so that all synchronise at the same steps.
//   fixed       H (local SGD, Stich 2019)
//   post_local  1 up to post_local_steps, then H (Lin et al. 2020)
//   adaptive    begins with H and becomes shorter as the loss falls (AdaComm, Wang and Joshi 2019): NextPeriod
// `now`: of adaptive, what NextPeriod said last; 0: nothing yet.
int64_t PeriodAt(const Communication& config, int64_t step, int64_t now);

// AdaComm's rule at an epoch's end: ceil(H · sqrt(loss / first_loss)), or half of `now` where that would not be
// shorter; 1 at least. Losses are the epochs' means; one that says nothing (not positive, or not finite) changes
// nothing.
int64_t NextPeriod(int64_t first_period, double first_loss, double loss, int64_t now);

}  // namespace lockstep
