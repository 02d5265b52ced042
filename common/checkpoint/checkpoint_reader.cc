#include <xxhash.h>

#include <algorithm>
#include <map>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/checkpoint/checkpoint.h"
#include "common/checkpoint/json.h"
#include "common/checkpoint/names.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxManifestBytes = 1 << 20;
constexpr int64_t kMaxStateBytes = 256 << 20;

std::string NameOf(const std::string& folder) { return folder.substr(folder.find_last_of('/') + 1); }

// What cannot be read is as good as lost; the message keeps the system's reason.
absl::StatusOr<std::string> ReadOrLost(FileSystem* files, const std::string& path, int64_t max_bytes) {
  absl::StatusOr<std::string> content = files->Read(path, max_bytes);
  if (content.ok()) return content;
  return absl::DataLossError(content.status().message());
}

absl::Status VerifyFile(FileSystem* files, const std::string& folder, const Manifest::File& file) {
  const std::string path = JoinPath(folder, file.name());
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(state.get());
  int64_t bytes = 0;
  const absl::Status read = files->ForEachPiece(path, file.bytes(), [&](absl::string_view piece) {
    XXH3_64bits_update(state.get(), piece.data(), piece.size());
    bytes += piece.size();
  });
  if (absl::IsInvalidArgument(read)) {
    return absl::DataLossError(absl::StrCat(path, ": has more than the ", file.bytes(), " bytes of the manifest"));
  }
  if (!read.ok()) return absl::DataLossError(read.message());
  if (bytes != file.bytes()) {
    return absl::DataLossError(absl::StrCat(path, ": has ", bytes, " bytes, the manifest says ", file.bytes()));
  }
  const std::string hash = absl::StrFormat("%016x", XXH3_64bits_digest(state.get()));
  if (hash == file.xxh3()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path, ": XXH3 is ", hash, ", the manifest says ", file.xxh3(),
                                          "; the content has changed since it was written"));
}

// Verified, of this step by all that it says itself.
absl::Status ReadCheckpoint(FileSystem* files, int64_t step, FoundCheckpoint* found) {
  ASSIGN_OR_RETURN(found->manifest, VerifyCheckpoint(files, found->folder));
  ASSIGN_OR_RETURN(found->state, ReadCheckpointState(files, found->folder));
  for (const int64_t said : {found->manifest.step(), found->state.cursor().step()}) {
    if (said == step) continue;
    return absl::DataLossError(absl::StrCat(found->folder, ": holds step ", said, ", not the step of its name"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Manifest> ReadManifest(FileSystem* files, const std::string& folder) {
  const std::string path = JoinPath(folder, kManifestFile);
  ASSIGN_OR_RETURN(const std::string json, ReadOrLost(files, path, kMaxManifestBytes));
  Manifest manifest;
  RETURN_IF_ERROR(Annotate(MessageFromJson(json, &manifest), path));
  RETURN_IF_ERROR(Annotate(CheckManifest(manifest), folder));
  return manifest;
}

absl::StatusOr<Manifest> VerifyCheckpoint(FileSystem* files, const std::string& folder) {
  if (!files->Exists(folder)) return absl::NotFoundError(absl::StrCat(folder, ": no such checkpoint"));
  ASSIGN_OR_RETURN(Manifest manifest, ReadManifest(files, folder));
  const int64_t step = StepOfCheckpointName(NameOf(folder));
  if (step >= 0 && step != manifest.step()) {
    return absl::DataLossError(absl::StrCat(folder, ": the manifest is of step ", manifest.step()));
  }
  for (const Manifest::File& file : manifest.files()) RETURN_IF_ERROR(VerifyFile(files, folder, file));
  return manifest;
}

absl::StatusOr<CheckpointState> ReadCheckpointState(FileSystem* files, const std::string& folder) {
  const std::string path = JoinPath(folder, kStateFile);
  ASSIGN_OR_RETURN(const std::string json, ReadOrLost(files, path, kMaxStateBytes));
  CheckpointState state;
  RETURN_IF_ERROR(Annotate(MessageFromJson(json, &state), path));
  if (state.schema_version() > 1) {
    return absl::DataLossError(absl::StrCat(path, ": schema_version is ", state.schema_version(),
                                            ", this version reads 1; use the release that wrote it"));
  }
  return state;
}

std::string CheckpointStateToJson(const CheckpointState& state) {
  // Protobuf's JSON reads -0 as 0, so 0 is what is written: what was read is then written to the same bytes.
  CheckpointState written = state;
  written.set_best_value(written.best_value() + 0.0);
  for (EvaluationResult& evaluation : *written.mutable_evaluations()) {
    for (auto& metric : *evaluation.mutable_metrics()) metric.second += 0.0;
  }
  return MessageToJson(written);
}

std::vector<int64_t> ListCheckpoints(FileSystem* files, const std::string& checkpoints_folder) {
  std::vector<int64_t> steps;
  const absl::StatusOr<std::vector<std::string>> names = files->List(checkpoints_folder);
  if (!names.ok()) return steps;
  for (const std::string& name : *names) {
    const int64_t step = StepOfCheckpointName(name);
    if (step >= 0 && files->Exists(JoinPath(JoinPath(checkpoints_folder, name), kManifestFile))) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

absl::StatusOr<FoundCheckpoint> FindLastCheckpoint(FileSystem* files, const std::string& checkpoints_folder) {
  std::map<int64_t, std::string> folders;
  const absl::StatusOr<std::vector<std::string>> names = files->List(checkpoints_folder);
  if (!names.ok() && !absl::IsNotFound(names.status())) return names.status();
  for (const std::string& name : names.ok() ? *names : std::vector<std::string>()) {
    const int64_t step = StepOfCheckpointName(name), replaced = StepOfHiddenName(name, kReplacedSuffix);
    if (step >= 0) folders[step] = name;
    if (replaced >= 0) folders.emplace(replaced, name);  // names sort '.' first: a real one overwrites it
  }
  FoundCheckpoint found;
  for (auto at = folders.rbegin(); at != folders.rend(); ++at) {
    found.folder = JoinPath(checkpoints_folder, at->second);
    const absl::Status status = ReadCheckpoint(files, at->first, &found);
    if (status.ok()) return found;
    found.passed_over.push_back(std::string(status.message()));
  }
  if (found.passed_over.empty()) return absl::NotFoundError(absl::StrCat(checkpoints_folder, ": no checkpoint"));
  return absl::NotFoundError(
      absl::StrCat(checkpoints_folder, ": no checkpoint is whole: ", absl::StrJoin(found.passed_over, "; ")));
}

}  // namespace lockstep
