#include <set>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/checkpoint/checkpoint.h"
#include "common/checkpoint/json.h"
#include "common/checkpoint/names.h"

namespace lockstep {
namespace {

constexpr const char* kLinks[] = {"latest", "best"};

// The steps that links point at. The manifest behind a link tells, since FileSystem reads no links.
absl::StatusOr<std::set<int64_t>> LinkedSteps(FileSystem* files, const std::string& checkpoints_folder) {
  std::set<int64_t> steps;
  for (const char* link : kLinks) {
    const std::string path = JoinPath(checkpoints_folder, link);
    if (!files->Exists(path)) continue;  // none, or it points at nothing
    ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(files, path));
    steps.insert(manifest.step());
  }
  return steps;
}

// What a crash left behind.
absl::Status RemoveLeftovers(FileSystem* files, const std::string& checkpoints_folder) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, files->List(checkpoints_folder));
  for (const std::string& name : names) {
    if (const int64_t step = StepOfHiddenName(name, kReplacedSuffix); step >= 0) {
      RETURN_IF_ERROR(FinishReplacement(files, checkpoints_folder, step));
    }
    const bool unfinished =
        StepOfHiddenName(name, kTemporarySuffix) >= 0 || StepOfHiddenName(name, kRemovedSuffix) >= 0;
    if (unfinished) RETURN_IF_ERROR(files->RemoveAll(JoinPath(checkpoints_folder, name)));
  }
  return absl::OkStatus();
}

// Out of sight first, for good, so that a half removed one is never listed.
absl::Status RemoveCheckpoints(FileSystem* files, const std::string& checkpoints_folder,
                               const std::vector<int64_t>& steps) {
  if (steps.empty()) return absl::OkStatus();
  for (const int64_t step : steps) {
    RETURN_IF_ERROR(files->Rename(JoinPath(checkpoints_folder, CheckpointName(step)),
                                  HiddenPath(checkpoints_folder, step, kRemovedSuffix)));
  }
  RETURN_IF_ERROR(files->SyncFolder(checkpoints_folder));
  for (const int64_t step : steps) {
    RETURN_IF_ERROR(files->RemoveAll(HiddenPath(checkpoints_folder, step, kRemovedSuffix)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status PointLink(FileSystem* files, const std::string& checkpoints_folder, const std::string& link,
                       int64_t step) {
  if (link != kLinks[0] && link != kLinks[1]) {
    return absl::InvalidArgumentError(absl::StrCat("a link to a checkpoint is latest or best, not '", link, "'"));
  }
  const std::string name = CheckpointName(step), folder = JoinPath(checkpoints_folder, name);
  if (!files->Exists(folder)) return absl::NotFoundError(absl::StrCat(folder, ": no such checkpoint to call ", link));
  RETURN_IF_ERROR(files->ReplaceLink(name, JoinPath(checkpoints_folder, link)));
  return files->SyncFolder(checkpoints_folder);
}

absl::Status PruneCheckpoints(FileSystem* files, const std::string& checkpoints_folder, int keep_last) {
  RETURN_IF_ERROR(RemoveLeftovers(files, checkpoints_folder));
  if (keep_last <= 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::set<int64_t> linked, LinkedSteps(files, checkpoints_folder));
  const std::vector<int64_t> steps = ListCheckpoints(files, checkpoints_folder);
  std::vector<int64_t> removed;
  for (size_t i = 0; i + keep_last < steps.size(); ++i) {
    if (linked.count(steps[i]) == 0) removed.push_back(steps[i]);
  }
  return RemoveCheckpoints(files, checkpoints_folder, removed);
}

}  // namespace lockstep
