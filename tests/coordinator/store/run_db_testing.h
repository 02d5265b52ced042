#pragma once

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
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

inline EpochRow Epoch(int epoch, int64_t steps) {
  EpochRow row;
  row.done.set_epoch(epoch);
  row.done.set_steps(steps);
  row.done.set_samples(640);
  row.done.set_fingerprint(0xfedcba9876543210);
  row.done.set_seconds(12.5);
  row.expected_fingerprint = 0x1f;
  return row;
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

}  // namespace lockstep
