#include "common/checkpoint/names.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "common/checkpoint/checkpoint.h"

namespace lockstep {

std::string CheckpointName(int64_t step) { return absl::StrFormat("step-%08d", step); }

int64_t StepOfCheckpointName(absl::string_view name) {
  absl::string_view digits = name;
  int64_t step;
  if (!absl::ConsumePrefix(&digits, "step-") || !absl::SimpleAtoi(digits, &step) || step < 0) return -1;
  return CheckpointName(step) == name ? step : -1;
}

std::string HiddenPath(const std::string& checkpoints_folder, int64_t step, absl::string_view suffix) {
  return JoinPath(checkpoints_folder, absl::StrCat(".", CheckpointName(step), suffix));
}

int64_t StepOfHiddenName(absl::string_view name, absl::string_view suffix) {
  if (!absl::ConsumePrefix(&name, ".") || !absl::ConsumeSuffix(&name, suffix)) return -1;
  return StepOfCheckpointName(name);
}

bool IsContentName(absl::string_view name) {
  return name == kModelFile || name == kOptimizerFile || name == kRanksFile || name == kStateFile;
}

absl::Status FinishReplacement(FileSystem* files, const std::string& checkpoints_folder, int64_t step) {
  const std::string old = HiddenPath(checkpoints_folder, step, kReplacedSuffix);
  if (!files->Exists(old)) return absl::OkStatus();
  const std::string folder = JoinPath(checkpoints_folder, CheckpointName(step));
  return files->Exists(folder) ? files->RemoveAll(old) : files->Rename(old, folder);
}

}  // namespace lockstep
