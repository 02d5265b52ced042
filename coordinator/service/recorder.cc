#include "coordinator/service/recorder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

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

void Recorder::Journaled(const Update& update) {
  if (!IsShown(update)) return;
  MutexLock lock(&updates_mutex_);
  given_up_ |= updates_.size() >= kMaxWaiting;
  if (!given_up_) updates_.push_back(update);
}

StepFold::Recent Recorder::recent() {
  MutexLock lock(&fold_mutex_);
  return fold_.recent();
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
  WriteUpdates();
}

void Recorder::WriteTelemetry(const TelemetryRows& rows) {
  if (!rows.empty()) Succeeded(db_->Write(rows), &db_failing_, "run.db");
}

void Recorder::WriteUpdates() {
  for (;;) {
    Update update;
    {
      MutexLock lock(&updates_mutex_);
      if (updates_.empty()) return;
      update = updates_.front();
    }
    if (!Succeeded(db_->Show(update), &db_failing_, "run.db")) return;
    if (update.has_evaluated()) WriteScalarsOf(update.evaluated(), update.time());
    MutexLock lock(&updates_mutex_);
    updates_.pop_front();
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
