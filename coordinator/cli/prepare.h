#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/config.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

// A run that can be started: its config resolved against its data.
struct PreparedRun {
  RunConfig config;
  std::string digest;
  int64_t train_samples = 0, val_samples = 0;
  std::string data_digest;
  int64_t sample_bytes = 0;  // of an input and its target as they lie in the file
};

// From a config file. `workers` wins over the config's.
absl::StatusOr<PreparedRun> PrepareRun(const std::string& config_path, const std::vector<std::string>& overrides,
                                       std::optional<int> workers);
// From a run's own config; only settings that cannot change what is trained may be overridden. FailedPrecondition: the
// data are not those it was trained on, or the run is live.
absl::StatusOr<PreparedRun> PrepareResume(const std::string& run_folder, const std::vector<std::string>& overrides,
                                          std::optional<int> workers);

// What `--dry-run` shows: the resolved config as YAML, then the plan as comments, so that all of it is a config.
absl::StatusOr<std::string> DescribePlan(const PreparedRun& run);

// FailedPrecondition: the config wants a device that this machine has not.
absl::Status CheckDevice(const RunConfig& config);

}  // namespace lockstep
