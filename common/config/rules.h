#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/config/parse.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

// A setting that does not go with the others: "optimizer.nesterov" "needs optimizer.momentum above 0; …".
struct Violation {
  std::string path;
  std::string predicate;
};

// The first rule over several fields that is broken.
std::optional<Violation> FindViolation(const RunConfig& config);

// Gives those fields that were not written the value that follows from others: model.name and loss.name from a
// TorchScript file, convergence.metric and metrics from the loss.
void FillDerived(const Sources& sources, RunConfig* config);

// Makes metrics hold what the loss suggests if they are empty, and always the loss and convergence.metric.
void CompleteMetrics(RunConfig* config);

}  // namespace lockstep
