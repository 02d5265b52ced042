#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/file.h"
#include "lockstep/journal.pb.h"

namespace lockstep {

inline constexpr char kModelFile[] = "model.safetensors";
inline constexpr char kOptimizerFile[] = "optimizer.safetensors";
inline constexpr char kRanksFile[] = "ranks.safetensors";  // only where ranks have states of their own
inline constexpr char kStateFile[] = "state.json";
inline constexpr char kManifestFile[] = "MANIFEST.json";

// "step-00001234".
std::string CheckpointName(int64_t step);
// -1: not such a name.
int64_t StepOfCheckpointName(absl::string_view name);

// Writes one checkpoint so that it is there whole or not at all: files go into `<checkpoints>/.step-….tmp`, are synced,
// the manifest with their sizes and XXH3 comes last, then a rename. Destroyed before Commit: what was written is
// removed. After a failure, all that follows fails too. A checkpoint holds kModelFile, kOptimizerFile and kStateFile,
// none of them left out, may hold kRanksFile, and holds no other. Not thread-safe; one writer at a time in a folder.
class CheckpointWriter {
 public:
  static absl::StatusOr<std::unique_ptr<CheckpointWriter>> Create(FileSystem* files,
                                                                  const std::string& checkpoints_folder, int64_t step);
  ~CheckpointWriter();
  absl::Status BeginFile(const std::string& name);  // ends the file before it
  absl::Status Append(absl::string_view data);
  absl::Status AddFile(const std::string& name, absl::string_view content);
  // Total bytes, folder and ManifestDigest are the checkpoint's. A folder of that step that is there already is
  // replaced.
  struct Committed {
    std::string folder;
    int64_t bytes = 0;
    std::string digest;
  };
  absl::StatusOr<Committed> Commit();

 private:
  struct OpenFile;
  CheckpointWriter(FileSystem* files, std::string folder, int64_t step);
  absl::Status EndFile();
  // Remembers the first failure: whatever is asked for after it fails alike.
  absl::Status Keep(absl::Status status);

  FileSystem* const files_;
  const std::string checkpoints_folder_, temporary_;
  const int64_t step_;
  Manifest manifest_;
  std::unique_ptr<OpenFile> open_;
  absl::Status failed_;
  bool committed_ = false;
};

// Checks every file of the manifest: there, right size, right XXH3. DataLoss names the file and what differs; NotFound:
// no such folder.
absl::StatusOr<Manifest> VerifyCheckpoint(FileSystem* files, const std::string& folder);

// XXH3-64 of what a manifest says, and with that of every byte of its checkpoint: 16 hexadecimal digits.
std::string ManifestDigest(const Manifest& manifest);

// Doubles come back bit for bit, infinities included, but -0 as 0. DataLoss: not there, or not what
// CheckpointStateToJson writes.
absl::StatusOr<CheckpointState> ReadCheckpointState(FileSystem* files, const std::string& folder);
std::string CheckpointStateToJson(const CheckpointState& state);

// Steps of the folders that look like committed checkpoints, ascending.
std::vector<int64_t> ListCheckpoints(FileSystem* files, const std::string& checkpoints_folder);

// The newest checkpoint that verifies, with a word for each newer one that does not. NotFound: none. Changes nothing.
// The folder has a hidden name if the process died while it replaced that checkpoint.
struct FoundCheckpoint {
  std::string folder;
  CheckpointState state;
  Manifest manifest;
  std::vector<std::string> passed_over;
};
absl::StatusOr<FoundCheckpoint> FindLastCheckpoint(FileSystem* files, const std::string& checkpoints_folder);

// Points `latest` or `best` at a checkpoint of the same folder. NotFound: there is none of that step.
absl::Status PointLink(FileSystem* files, const std::string& checkpoints_folder, const std::string& link, int64_t step);

// Removes all but the last `keep_last` (0: all are kept), what `latest` and `best` point at, and leftovers of
// checkpoints that were never committed. Not while a CheckpointWriter of the folder is alive.
absl::Status PruneCheckpoints(FileSystem* files, const std::string& checkpoints_folder, int keep_last);

}  // namespace lockstep
