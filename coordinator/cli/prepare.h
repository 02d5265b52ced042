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

// How large a launch is to be, beside what the config says.
struct LaunchSize {
  std::optional<int> workers;  // wins over the config's; where neither says, there is one a core of this machine
  int threads = 0;             // of a worker, where the config says none; 0: this machine's cores, shared out
};

// From a config file.
absl::StatusOr<PreparedRun> PrepareRun(const std::string& config_path, const std::vector<std::string>& overrides,
                                       const LaunchSize& size);
// From a run's own config; only settings that cannot change what is trained may be overridden. With more workers than
// before each gets no more threads than there are cores for. FailedPrecondition: the data are not those it was trained
// on, or the run is live.
absl::StatusOr<PreparedRun> PrepareResume(const std::string& run_folder, const std::vector<std::string>& overrides,
                                          const LaunchSize& size);

// Of a config file, or of the run in `run_folder` if that is not empty: the workers that it says (0: none), and the
// threads of each (0: none said). Looks at no data.
struct ConfigSize {
  int workers = 0, threads = 0;
};
absl::StatusOr<ConfigSize> SizeOfConfig(const std::string& config_path, const std::string& run_folder,
                                        const std::vector<std::string>& overrides);

// What `--dry-run` shows: the resolved config as YAML, then the plan as comments, so that all of it is a config.
absl::StatusOr<std::string> DescribePlan(const PreparedRun& run);

// FailedPrecondition: the config wants a device that this machine has not.
absl::Status CheckDevice(const RunConfig& config);

}  // namespace lockstep
