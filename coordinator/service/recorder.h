#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "common/base/mutex.h"
#include "common/base/periodic.h"
#include "coordinator/observe/event_file.h"
#include "coordinator/state/step_fold.h"
#include "coordinator/store/run_db.h"

namespace lockstep {

struct RecorderOptions {
  int world = 1;
  int incarnation = 1;
  absl::Duration period = absl::Milliseconds(200);
  std::function<void(const std::string& what)> on_problem;  // must not call back
};

// Everything that is only measured: folds the workers' reports and writes run.db and the event files behind the
// coordinator's back, a few times a second. Disk errors are told once and the run goes on: what is folded meanwhile is
// lost to the record, what the journal holds is tried again (and past a bound left to the next launch, which brings
// run.db up to the journal). Thread-safe; no method but Flush waits for a disk.
class Recorder {
 public:
  // `events` may be null: no event file could be made.
  Recorder(RecorderOptions options, std::unique_ptr<RunDb> db, std::unique_ptr<EventFile> events);
  ~Recorder();  // flushes

  // `rank` in [0, world).
  void Report(int rank, const StepBatch& batch);
  // Every update of the journal, in order, once it is there.
  void Journaled(const Update& update);

  StepFold::Recent recent();
  // All that came so far is written (or told to on_problem), complete steps or not.
  void Flush();

 private:
  // So many updates wait for a disk that does not take them.
  static constexpr size_t kMaxWaiting = 100000;

  void Write(bool flush);
  void WriteUpdates() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  void WriteTelemetry(const TelemetryRows& rows) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  void WriteScalars(const TelemetryRows& rows) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  void WriteScalarsOf(const EvaluationResult& result, double time) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  // True: OK. Tells a problem when it begins, not while it lasts.
  bool Succeeded(const absl::Status& status, bool* failing, const char* what)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);

  const RecorderOptions options_;

  Mutex fold_mutex_;
  StepFold fold_ ABSL_GUARDED_BY(fold_mutex_);

  Mutex updates_mutex_;
  std::deque<Update> updates_ ABSL_GUARDED_BY(updates_mutex_);
  bool given_up_ ABSL_GUARDED_BY(updates_mutex_) = false;  // no more are taken: run.db has no gaps, it ends early

  Mutex write_mutex_;  // held while writing: taken before the other two
  const std::unique_ptr<RunDb> db_ ABSL_PT_GUARDED_BY(write_mutex_);
  const std::unique_ptr<EventFile> events_ ABSL_PT_GUARDED_BY(write_mutex_);
  double next_scalars_ ABSL_GUARDED_BY(write_mutex_) = 0;
  bool db_failing_ ABSL_GUARDED_BY(write_mutex_) = false;
  bool events_failing_ ABSL_GUARDED_BY(write_mutex_) = false;

  PeriodicTask task_;
};

}  // namespace lockstep
