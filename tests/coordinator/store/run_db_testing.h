#pragma once

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/store/journal.h"
#include "coordinator/store/run_db.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"

namespace lockstep {

inline std::unique_ptr<RunDb> Open(const std::string& path) {
  auto db = OpenRunDb(path, nullptr);
  EXPECT_TRUE(db.ok()) << db.status();
  return *std::move(db);
}

inline RunFigures FiguresOf(const std::string& path) {
  auto reader = OpenRunDbReader(path);
  EXPECT_TRUE(reader.ok()) << reader.status();
  if (!reader.ok()) return {};
  auto figures = (*reader)->Figures();
  EXPECT_TRUE(figures.ok()) << figures.status();
  return figures.ok() ? *figures : RunFigures{};
}

// The first column of a query's rows, joined by spaces; NULL as "null".
inline std::string Query(const std::string& path, absl::string_view sql) {
  auto database = Database::OpenToRead(path, kRunDbIdentity);
  EXPECT_TRUE(database.ok()) << database.status();
  auto rows = (*database)->Prepare(sql);
  EXPECT_TRUE(rows.ok()) << rows.status();
  std::vector<std::string> values;
  while (*rows->Step()) values.push_back(rows->IsNull(0) ? "null" : rows->Text(0));
  return absl::StrJoin(values, " ");
}

// Every field with a value of its own, so that two that are mixed up show.
inline StepRecord Record(int64_t step, double seed) {
  StepRecord r;
  r.set_step(step);
  r.set_epoch(3);
  r.set_start(seed + 0.01);
  r.set_step_s(seed + 0.02);
  r.set_data_wait_s(seed + 0.03);
  r.set_forward_s(seed + 0.04);
  r.set_backward_s(seed + 0.05);
  r.set_comm_exposed_s(seed + 0.06);
  r.set_optimizer_s(seed + 0.07);
  r.set_other_s(seed + 0.08);
  r.set_comm_busy_s(seed + 0.09);
  r.set_comm_overlap_s(seed + 0.10);
  r.set_comm_wait_s(seed + 0.11);
  r.set_comm_transfer_s(seed + 0.12);
  r.set_comm_interval_s(seed + 0.13);
  r.set_arrival(seed + 0.14);
  r.set_loss_sum(64 * (seed + 0.15));
  r.set_samples(64);
  r.set_lr(seed + 0.16);
  r.set_grad_norm(seed + 0.17);
  r.set_grad_bytes(1001);
  r.set_wire_bytes(1002);
  r.set_clock_error_s(seed + 0.22);
  r.set_input_read_s(seed + 0.23);
  r.set_input_decode_s(seed + 0.24);
  r.set_input_ready(3);
  r.set_update_wait_s(seed + 0.25);
  return r;
}

inline StepRow Step(int64_t step, int incarnation, double seed = 1) {
  StepRow row;
  row.mean = Record(step, seed);
  row.time = seed + 0.18;
  row.loss = seed + 0.19;
  row.step_max_s = seed + 0.20;
  row.overlap_ratio = seed + 0.21;
  row.last_rank = 1;
  row.incarnation = incarnation;
  return row;
}

inline RankStepRow RankStep(int64_t step, int rank, int incarnation, double seed = 1) {
  return {Record(step, seed), rank, incarnation};
}

inline CollectiveRow Collective(int64_t step, int incarnation) {
  CollectiveRow row;
  row.step = step;
  row.seq = 2;
  row.incarnation = incarnation;
  row.name = "bucket.2";
  row.algorithm = "mpi";
  row.grad_bytes = 11;
  row.wire_bytes = 12;
  row.first_arrival = 13;
  row.last_arrival = 14;
  row.end = 15;
  row.last_rank = 1;
  row.algbw = 16;
  row.busbw = 17;
  row.wait_s = 18;
  row.transfer_s = 19;
  row.timing = Timing::kDurations;
  return row;
}

// Of a collective; without `seq` of the trainer.
inline SpanRow SpanOf(int64_t step, int rank, int incarnation, int number, int seq = -1) {
  SpanRow row;
  row.step = step;
  row.rank = rank;
  row.incarnation = incarnation;
  row.number = number;
  row.seq = seq;
  row.span.set_thread(seq < 0 ? TRACE_THREAD_TRAINER : TRACE_THREAD_COMMUNICATION);
  row.span.set_name(seq < 0 ? "forward" : "bucket.0");
  row.span.set_start(number + 0.5);
  row.span.set_end(number + 0.75);
  row.span.set_flops(seq < 0 ? 1e6 : 0);
  row.arrival = seq < 0 ? 0 : number + 0.25;
  return row;
}

inline TelemetryRows Steps(int64_t first, int64_t last, int incarnation, int ranks = 2) {
  TelemetryRows rows;
  for (int64_t step = first; step <= last; ++step) {
    rows.steps.push_back(Step(step, incarnation));
    for (int rank = 0; rank < ranks; ++rank) rows.rank_steps.push_back(RankStep(step, rank, incarnation));
    rows.collectives.push_back(Collective(step, incarnation));
  }
  return rows;
}

inline EvaluationResult Evaluation(int64_t step, double accuracy) {
  EvaluationResult result;
  result.set_step(step);
  result.set_epoch(2);
  result.set_split("val");
  result.set_samples(1000);
  result.set_seconds(0.5);
  (*result.mutable_metrics())["accuracy"] = accuracy;
  (*result.mutable_metrics())["loss"] = std::numeric_limits<double>::infinity();
  return result;
}

inline EpochDone Epoch(int epoch, int64_t steps) {
  EpochDone done;
  done.set_epoch(epoch);
  done.set_steps(steps);
  done.set_samples(640);
  done.set_fingerprint(0xfedcba9876543210);
  done.set_seconds(12.5);
  return done;
}

inline Decision StopByTarget(int64_t step) {
  Decision decision;
  decision.set_kind("stop");
  decision.set_rule("target");
  decision.set_reason("accuracy 0.98 at step 30");
  decision.set_step(step);
  decision.set_directive(4);
  return decision;
}

inline CheckpointCommitted Checkpoint(int64_t step) {
  CheckpointCommitted checkpoint;
  checkpoint.set_step(step);
  checkpoint.set_path(absl::StrCat("checkpoints/step-0000000", step));
  checkpoint.set_bytes(99);
  checkpoint.set_snapshot_s(0.1);
  checkpoint.set_write_s(0.2);
  return checkpoint;
}

inline CommunicationChosen ChosenCommunication(int incarnation) {
  CommunicationChosen chosen;
  chosen.set_incarnation(incarnation);
  chosen.set_world(2);
  chosen.set_structure("replicated");
  chosen.set_source("measured");
  for (const auto& [up_to, algorithm] : {std::pair<int64_t, const char*>(32768, "gather"), {99999, "ring"}}) {
    chosen.add_ways()->set_up_to_bytes(up_to);
    chosen.mutable_ways(chosen.ways_size() - 1)->set_algorithm(algorithm);
  }
  for (const auto& [algorithm, seconds] : {std::pair<const char*, double>("gather", 4e-4), {"direct", 7e-4}}) {
    CommunicationChosen::Measured* const measured = chosen.add_measured();
    measured->set_bytes(16384);
    measured->set_algorithm(algorithm);
    measured->set_seconds(seconds);
    measured->set_chosen(seconds < 5e-4);
  }
  return chosen;
}

// Updates one after the other, as a coordinator journals them.
class Story {
 public:
  // With a RunDb, each is shown as it comes.
  explicit Story(RunDb* db = nullptr, Journal* journal = nullptr) : db_(db), journal_(journal) {}

  void Start(int incarnation, int64_t from_step = 0, int world = 2) {
    Update update;
    RunStarted* started = update.mutable_run_started();
    started->set_incarnation(incarnation);
    started->set_train_samples(640);
    started->set_world(world);
    started->mutable_from()->mutable_cursor()->set_step(from_step);
    incarnation_ = incarnation;
    Take(std::move(update));
  }
  void Join(int rank, const std::string& host, double time, int64_t pid = 1) {
    Update update;
    update.mutable_worker_joined()->set_rank(rank);
    update.mutable_worker_joined()->set_incarnation(incarnation_);
    update.mutable_worker_joined()->set_host(host);
    update.mutable_worker_joined()->set_pid(pid);
    update.mutable_worker_joined()->set_cores(16);
    Take(std::move(update), time);
  }
  void Leave(int rank, double time, int64_t step = 0, const std::string& why = "") {
    Update update;
    update.mutable_worker_left()->set_rank(rank);
    update.mutable_worker_left()->set_incarnation(incarnation_);
    update.mutable_worker_left()->set_step(step);
    update.mutable_worker_left()->set_why(why);
    Take(std::move(update), time);
  }
  void Take(const EvaluationResult& result) {
    Update update;
    *update.mutable_evaluated() = result;
    Take(std::move(update));
  }
  void Take(const CommunicationChosen& chosen) {
    Update update;
    *update.mutable_communication_chosen() = chosen;
    Take(std::move(update));
  }
  void Take(const EpochDone& done) {
    Update update;
    *update.mutable_epoch_done() = done;
    Take(std::move(update));
  }
  void Take(const Decision& decision, double time = 7) {
    Update update;
    *update.mutable_decision() = decision;
    Take(std::move(update), time);
  }
  void Take(const CheckpointCommitted& checkpoint, double time = 7) {
    Update update;
    *update.mutable_checkpoint_committed() = checkpoint;
    Take(std::move(update), time);
  }
  void End(int exit_code = 0) {
    Update update;
    update.mutable_run_ended()->set_exit_code(exit_code);
    Take(std::move(update));
  }

  const std::vector<Update>& updates() const { return updates_; }
  // As at the start of a launch.
  void ShowAllTo(RunDb* db) const {
    for (const Update& update : updates_) EXPECT_EQ(db->Show(update), absl::OkStatus());
  }

 private:
  void Take(Update update, double time = 7) {
    update.set_seq(static_cast<int64_t>(updates_.size()) + 1);
    update.set_time(time);
    updates_.push_back(update);
    EXPECT_TRUE(journal_ == nullptr || journal_->Append(update).ok());
    EXPECT_TRUE(db_ == nullptr || db_->Show(update).ok());
  }

  RunDb* db_;
  Journal* const journal_;
  std::vector<Update> updates_;
  int incarnation_ = 0;
};

}  // namespace lockstep
