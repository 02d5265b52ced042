#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/checkpoint/checkpoint.h"
#include "coordinator/service/folder_lock.h"
#include "coordinator/service/recorder.h"
#include "coordinator/service/server.h"
#include "coordinator/state/run_state.h"
#include "coordinator/store/journal.h"
#include "coordinator/store/run_db.h"

namespace lockstep {

// What a coordinator holds before it serves: the run folder, locked and laid out, and what a resume goes on from.
struct Launch {
  std::unique_ptr<FolderLock> lock;
  std::unique_ptr<Journal> journal;
  RunState state;  // the journal's
  std::unique_ptr<RunDb> db;
  std::unique_ptr<EventFile> events;    // null: could not be made; a note says why
  std::optional<FoundCheckpoint> from;  // unset: from the initial weights
  RunStarted started;
  std::vector<std::string> notes;
};

// FailedPrecondition: another coordinator is there; a fresh run in a folder that holds one; a resume with other data or
// another config; nothing to resume. Changes nothing that a run recorded, but rolls run.db back.
absl::StatusOr<Launch> PrepareLaunch(const ServerOptions& options);

// FailedPrecondition: the data in `path` are not those that the checkpoint of `run` was trained on.
absl::Status CheckSameData(const CheckpointState& state, const std::string& run, const std::string& path,
                           int64_t train_samples, const std::string& data_digest);

}  // namespace lockstep
