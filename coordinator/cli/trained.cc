#include "coordinator/cli/trained.h"

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "common/checkpoint/checkpoint.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/cli/worker_program.h"

namespace lockstep {
namespace {

// step-120 is step-00000120.
std::string FullName(const std::string& name) {
  int64_t step = 0;
  return absl::StartsWith(name, "step-") && absl::SimpleAtoi(name.substr(5), &step) ? CheckpointName(step) : name;
}

absl::StatusOr<std::string> ChooseCheckpoint(const std::string& run_folder, const std::string& wanted) {
  const std::string folder = JoinPath(run_folder, "checkpoints");
  for (const std::string& name :
       wanted.empty() ? std::vector<std::string>{"best", "latest"} : std::vector<std::string>{FullName(wanted)}) {
    const std::string path = JoinPath(folder, name);
    if (FileSystem::Real()->Exists(JoinPath(path, kManifestFile))) return path;
  }
  std::string there;
  for (const int64_t step : ListCheckpoints(FileSystem::Real(), folder)) {
    absl::StrAppend(&there, there.empty() ? "" : ", ", "step-", step);
  }
  return absl::NotFoundError(absl::StrCat(run_folder, ": no checkpoint", wanted.empty() ? "" : " ", wanted,
                                          there.empty() ? " yet" : absl::StrCat("; there are: ", there)));
}

absl::StatusOr<Trained> OfCheckpoint(const std::string& folder) {
  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(folder, error);
  if (error) return absl::NotFoundError(absl::StrCat(folder, ": ", error.message()));
  const std::string run_folder = real.parent_path().parent_path();
  const std::string config = JoinPath(run_folder, "config.yaml");
  if (FileSystem::Real()->Exists(config)) return Trained{folder, config};
  return absl::NotFoundError(
      absl::StrCat(folder, ": ", config, " is missing; a checkpoint is used from where its run put it"));
}

}  // namespace

void AddTrainedOptions(CLI::App* command, TrainedArguments* arguments) {
  command->add_option("RUN", arguments->target, "A run's folder or name, or a checkpoint's folder")
      ->required()
      ->type_name("");
  command->add_option("--checkpoint", arguments->checkpoint, "latest, best or step-N (default: best, else latest)")
      ->type_name("C");
}

absl::StatusOr<Trained> FindTrained(const TrainedArguments& arguments) {
  const bool is_checkpoint = FileSystem::Real()->Exists(JoinPath(arguments.target, kManifestFile));
  if (is_checkpoint && !arguments.checkpoint.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--checkpoint: ", arguments.target, " is a checkpoint itself; leave the option out"));
  }
  Trained trained;
  if (is_checkpoint) {
    ASSIGN_OR_RETURN(trained, OfCheckpoint(arguments.target));
  } else {
    ASSIGN_OR_RETURN(const std::string folder, FindRunFolder(arguments.target));
    ASSIGN_OR_RETURN(trained.checkpoint, ChooseCheckpoint(folder, arguments.checkpoint));
    trained.config = JoinPath(folder, "config.yaml");
  }
  const absl::StatusOr<Manifest> manifest = VerifyCheckpoint(FileSystem::Real(), trained.checkpoint);
  if (!manifest.ok()) return absl::InvalidArgumentError(manifest.status().message());
  return trained;
}

absl::Status UseTrained(const std::string& mode, const TrainedArguments& arguments,
                        const std::vector<std::string>& more_arguments) {
  ASSIGN_OR_RETURN(const Trained trained, FindTrained(arguments));
  std::vector<std::string> worker = {mode,           "--checkpoint", trained.checkpoint, "--config",
                                     trained.config, "--split",      arguments.split};
  if (!arguments.data.empty()) worker.insert(worker.end(), {"--data", arguments.data});
  worker.insert(worker.end(), more_arguments.begin(), more_arguments.end());
  return BecomeWorker(worker);
}

}  // namespace lockstep
