#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lockstep/journal.pb.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

// Beside a run's config, where it was launched on several hosts.
inline constexpr char kLaunchFile[] = "launch.json";

// Where runs lie unless --out says otherwise: $LOCKSTEP_RUNS, else "runs" in the working folder.
std::string RunsFolder();

// The folder of RUN as a person types it: a run's folder, or its name in RunsFolder(). NotFound says what was looked
// for and what may have been meant.
absl::StatusOr<std::string> FindRunFolder(const std::string& run);

// Names in RunsFolder() that are runs, sorted.
std::vector<std::string> ListRuns();

// RunConfig of a run's config.yaml.
absl::StatusOr<RunConfig> ConfigOfRun(const std::string& run_folder);

// Makes the folder of a new run with log/ and config.yaml in it. `out` must be new or empty, or hold what a launch left
// that was cut off before its run began (AlreadyExists otherwise); empty: RunsFolder()/<name>-<time>.
absl::StatusOr<std::string> MakeRunFolder(const std::string& out, const RunConfig& config, absl::Time now);

// Removes the folder of a run that was refused before it trained anything, so that its name is free again. A folder
// that is a link or a mount is emptied.
void RemoveRunFolder(const std::string& run_folder);

// Replaces the config.yaml of a run, on a resume with other settings.
absl::Status SaveRunConfig(const std::string& run_folder, const RunConfig& config);

// What a run's journal and checkpoints say about it, live or not.
struct RunOverview {
  std::string name, folder;
  bool live = false;
  bool ended = false;  // as it should; neither: it can be resumed
  std::string why;     // how the last launch ended; empty: it was cut off, or is live
  int exit_code = 1;
  int64_t step = 0;  // of the last checkpoint, or of the last evaluation after it
  int64_t last_checkpoint = -1;
  int64_t best_step = -1;
  double best_value = 0;
  std::string metric;
  std::optional<double> target;
  double started = 0;  // first launch, seconds since 1970; 0: not known
  double elapsed_s = 0;
  std::optional<Decision> stop;
  // Where `step` is in the plan; 0 where the journal does not say.
  int64_t final_step = 0, steps_per_epoch = 0, epoch_step = 0;
  int epoch = 0, incarnation = 0;
  std::map<int, std::vector<Inject>> faults;  // put in on purpose, by launch
};
absl::StatusOr<RunOverview> ReadOverview(const std::string& run_folder);
bool IsLive(const std::string& run_folder);

// "live", "ended" or "resumable".
std::string StateWord(const RunOverview& overview);

// "last checkpoint: step 120; go on with: lockstep run --resume runs/x".
std::string HowToGoOn(const std::string& run_folder);

}  // namespace lockstep
