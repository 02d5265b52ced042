#pragma once

#include "coordinator/report/anatomy.h"
#include "lockstep/report.pb.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

// Puts the findings of `report` into words, tells the two kinds of communication-bound apart, and adds what could be
// done, with what that would gain by the model of anatomy.h. All else of the report is there.
void AddWordsAndAdvice(const RunConfig& config, const Anatomy& anatomy, Report* report);

}  // namespace lockstep
