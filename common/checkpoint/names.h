#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "common/base/file.h"

// What stands in a folder of checkpoints:
//
//   step-00001234        a checkpoint, whole
//   .step-00001234.tmp   one that is being written, or never was finished
//   .step-00001234.old   what step-00001234 was, while it is being replaced: if step-00001234 is missing, this is it
//   .step-00001234.gone  one that is being removed
//   latest, best         links to checkpoints
namespace lockstep {

inline constexpr char kTemporarySuffix[] = ".tmp";
inline constexpr char kReplacedSuffix[] = ".old";
inline constexpr char kRemovedSuffix[] = ".gone";

// "<checkpoints_folder>/.step-00001234.tmp".
std::string HiddenPath(const std::string& checkpoints_folder, int64_t step, absl::string_view suffix);

// The step of ".step-00001234<suffix>"; -1: not such a name.
int64_t StepOfHiddenName(absl::string_view name, absl::string_view suffix);

// A file that a checkpoint may hold, beside the manifest.
bool IsContentName(absl::string_view name);

// If a crash came between the two renames of a replacement: gives the old checkpoint of `step` its name back. Else
// removes what is left of it.
absl::Status FinishReplacement(FileSystem* files, const std::string& checkpoints_folder, int64_t step);

}  // namespace lockstep
