#include "coordinator/service/recorder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/data/plan.h"

namespace lockstep {
namespace {

// At most 50 rows a second: TensorBoard samples what it shows, and its files should stay small beside run.db.
constexpr double kScalarsInterval = 0.02;

std::vector<Scalar> ScalarsOf(const StepRow& row) {
  const StepRecord& mean = row.mean;
  const double samples_per_s = mean.step_s() > 0 ? mean.samples() / mean.step_s() : 0;
  return {{"train/loss", row.loss},
          {"train/lr", mean.lr()},
          {"train/samples_per_s", samples_per_s},
          {"step/step_s", mean.step_s()},
          {"step/data_wait_s", mean.data_wait_s()},
          {"step/forward_s", mean.forward_s()},
          {"step/backward_s", mean.backward_s()},
          {"step/comm_exposed_s", mean.comm_exposed_s()},
          {"step/optimizer_s", mean.optimizer_s()},
          {"step/other_s", mean.other_s()}};
}

}  // namespace

Recorder::Recorder(RecorderOptions options, std::unique_ptr<RunDb> db, std::unique_ptr<EventFile> events)
    : options_(std::move(options)),
      fold_(options_.world, options_.incarnation),
      db_(std::move(db)),
      events_(std::move(events)),
      task_(options_.period, [this] { Write(false); }) {}

Recorder::~Recorder() {
  task_.Stop();
  Write(true);
}

void Recorder::Report(int rank, const StepBatch& batch) {
  MutexLock lock(&fold_mutex_);
  fold_.Add(rank, batch);
}

void Recorder::Push(Row row) {
  MutexLock lock(&rows_mutex_);
  if (rows_.size() >= kMaxWaiting) rows_.pop_front();
  rows_.push_back(std::move(row));
}

void Recorder::Epoch(const EpochDone& done) {
  Push([this, done]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return db_->WriteEpoch({done, EpochFingerprint(done.epoch(), options_.train_samples)}, options_.incarnation);
  });
}

void Recorder::Evaluation(const EvaluationResult& result, double time) {
  Push([this, result, time]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    absl::Status written = db_->WriteEvaluation(result, options_.incarnation);
    if (written.ok()) WriteScalarsOf(result, time);
    return written;
  });
}

void Recorder::Decided(const Decision& decision, double time) {
  Push([this, decision, time]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return db_->WriteDecision(decision, time); });
}

void Recorder::Checkpoint(const CheckpointCommitted& checkpoint, double time) {
  Push([this, checkpoint, time]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return db_->WriteCheckpoint(checkpoint, time); });
}

void Recorder::Rank(const RankRow& row) {
  Push([this, row]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return db_->WriteRank(row); });
}

StepFold::Recent Recorder::recent() {
  MutexLock lock(&fold_mutex_);
  return fold_.recent();
}

StepFold::EpochFigures Recorder::epoch() {
  MutexLock lock(&fold_mutex_);
  return fold_.epoch();
}

void Recorder::Flush() { Write(true); }

void Recorder::Write(bool flush) {
  MutexLock lock(&write_mutex_);
  TelemetryRows rows;
  {
    MutexLock fold_lock(&fold_mutex_);
    rows = flush ? fold_.Flush() : fold_.Take();
  }
  WriteTelemetry(rows);
  WriteScalars(rows);
  WriteRows();
}

void Recorder::WriteTelemetry(const TelemetryRows& rows) {
  if (!rows.empty()) Succeeded(db_->Write(rows), &db_failing_, "run.db");
}

void Recorder::WriteRows() {
  for (;;) {
    Row row;
    {
      MutexLock lock(&rows_mutex_);
      if (rows_.empty()) return;
      row = std::move(rows_.front());
      rows_.pop_front();
    }
    if (Succeeded(row(), &db_failing_, "run.db")) continue;
    MutexLock lock(&rows_mutex_);
    rows_.push_front(std::move(row));
    return;
  }
}

void Recorder::WriteScalars(const TelemetryRows& rows) {
  if (!events_) return;
  for (const StepRow& row : rows.steps) {
    if (row.time < next_scalars_) continue;
    next_scalars_ = row.time + kScalarsInterval;
    if (!Succeeded(events_->Write(row.time, row.mean.step(), ScalarsOf(row)), &events_failing_, "events")) return;
  }
}

void Recorder::WriteScalarsOf(const EvaluationResult& result, double time) {
  if (!events_) return;
  std::vector<Scalar> scalars;
  for (const auto& [metric, value] : result.metrics()) scalars.push_back({absl::StrCat("val/", metric), value});
  Succeeded(events_->Write(time, result.step(), scalars), &events_failing_, "events");
}

bool Recorder::Succeeded(const absl::Status& status, bool* failing, const char* what) {
  const bool begins = !status.ok() && !*failing;
  *failing = !status.ok();
  if (begins && options_.on_problem) {
    options_.on_problem(absl::StrCat(what, " could not be written: ", status.message(), "; the run goes on"));
  }
  return status.ok();
}

}  // namespace lockstep
