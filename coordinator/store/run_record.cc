#include "coordinator/store/run_record.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"

namespace lockstep {
namespace {

Timing TimingOf(const std::string& name) {
  return name == TimingName(Timing::kDurations) ? Timing::kDurations : Timing::kArrivals;
}

TraceThread ThreadOf(const std::string& name) {
  for (const TraceThread thread : {TRACE_THREAD_COMMUNICATION, TRACE_THREAD_INPUT}) {
    if (name == TraceThreadName(thread)) return thread;
  }
  return TRACE_THREAD_TRAINER;
}

constexpr char kParts[] = "step_s, data_wait_s, forward_s, backward_s, comm_exposed_s, optimizer_s, other_s";

// From column `at` on.
void ReadParts(const Statement& row, int at, StepRecord* record) {
  record->set_step_s(row.Real(at));
  record->set_data_wait_s(row.Real(at + 1));
  record->set_forward_s(row.Real(at + 2));
  record->set_backward_s(row.Real(at + 3));
  record->set_comm_exposed_s(row.Real(at + 4));
  record->set_optimizer_s(row.Real(at + 5));
  record->set_other_s(row.Real(at + 6));
}

class SqliteRunRecord : public RunRecord {
 public:
  SqliteRunRecord(std::unique_ptr<Database> database, Transaction moment, bool has_update_waits)
      : database_(std::move(database)), moment_(std::move(moment)), has_update_waits_(has_update_waits) {}

  absl::StatusOr<Outline> ReadOutline() override {
    Outline outline;
    RETURN_IF_ERROR(
        Each("SELECT incarnation, MIN(step), MAX(step), COUNT(*) FROM step WHERE survived "
             "GROUP BY incarnation ORDER BY MIN(step)",
             [&](const Statement& row) {
               outline.stretches.push_back({static_cast<int>(row.Int(0)), row.Int(1), row.Int(2), row.Int(3)});
             }));
    RETURN_IF_ERROR(
        Each("SELECT incarnation, rank, host, cores, (SELECT structure FROM communication WHERE "
             "communication.incarnation = rank.incarnation LIMIT 1) FROM rank",
             [&](const Statement& row) {
               outline.places[static_cast<int>(row.Int(0))][static_cast<int>(row.Int(1))] = {
                   row.Text(2), static_cast<int>(row.Int(3)), row.Text(4)};
             }));
    RETURN_IF_ERROR(
        Each("SELECT MIN(joined) FROM rank", [&](const Statement& row) { outline.launched = row.Real(0); }));
    RETURN_IF_ERROR(Each("SELECT structure FROM communication ORDER BY incarnation DESC LIMIT 1",
                         [&](const Statement& row) { outline.algorithm = row.Text(0); }));
    return outline;
  }

  absl::Status EachStep(int incarnation, int64_t first, int64_t last,
                        const std::function<void(const StepRow&)>& row) override {
    StepRow step;
    step.incarnation = incarnation;
    return Each(
        absl::StrCat("SELECT step, time, ", kParts,
                     ", loss, samples, step_max_s, comm_busy_s, comm_wait_s, comm_transfer_s, overlap_ratio, "
                     "last_rank, grad_bytes, wire_bytes, timing, clock_error_s, comm_interval_s "
                     "FROM step WHERE incarnation = ? AND step BETWEEN ? AND ? AND survived ORDER BY step"),
        [&](const Statement& s) {
          StepRecord& mean = step.mean;
          mean.set_step(s.Int(0));
          step.time = s.Real(1);
          ReadParts(s, 2, &mean);
          step.loss = s.IsNull(9) ? std::nan("") : s.Real(9);
          mean.set_samples(s.Int(10));
          step.step_max_s = s.Real(11);
          mean.set_comm_busy_s(s.Real(12));
          mean.set_comm_wait_s(s.Real(13));
          mean.set_comm_transfer_s(s.Real(14));
          step.overlap_ratio = s.Real(15);
          step.last_rank = static_cast<int>(s.Int(16));
          mean.set_grad_bytes(s.Int(17));
          mean.set_wire_bytes(s.Int(18));
          step.timing = TimingOf(s.Text(19));
          mean.set_clock_error_s(s.Real(20));
          mean.set_comm_interval_s(s.Real(21));
          row(step);
        },
        incarnation, first, last);
  }

  absl::Status EachRankStep(int incarnation, int64_t first, int64_t last,
                            const std::function<void(const RankStepRow&)>& row) override {
    RankStepRow step;
    step.incarnation = incarnation;
    return Each(
        absl::StrCat("SELECT step, rank, start, ", kParts,
                     ", comm_busy_s, comm_wait_s, input_read_s, input_decode_s, input_ready, clock_error_s, ",
                     has_update_waits_ ? "update_wait_s" : "NULL",
                     " FROM rank_step "
                     "WHERE incarnation = ? AND step BETWEEN ? AND ? AND survived ORDER BY step, rank"),
        [&](const Statement& s) {
          StepRecord& record = step.record;
          record.set_step(s.Int(0));
          step.rank = static_cast<int>(s.Int(1));
          record.set_start(s.Real(2));
          ReadParts(s, 3, &record);
          record.set_comm_busy_s(s.Real(10));
          record.set_comm_wait_s(s.Real(11));
          record.set_input_read_s(s.Real(12));
          record.set_input_decode_s(s.Real(13));
          record.set_input_ready(static_cast<int32_t>(s.Int(14)));
          record.set_clock_error_s(s.Real(15));
          record.set_update_wait_s(s.IsNull(16) ? -1 : s.Real(16));
          row(step);
        },
        incarnation, first, last);
  }

  absl::Status EachCollective(int incarnation, int64_t first, int64_t last,
                              const std::function<void(const CollectiveRow&)>& row) override {
    CollectiveRow one;
    one.incarnation = incarnation;
    return Each(
        "SELECT step, seq, name, algorithm, grad_bytes, wire_bytes, first_arrival, last_arrival, \"end\", last_rank, "
        "algbw, busbw, wait_s, transfer_s, timing FROM collective "
        "WHERE incarnation = ? AND step BETWEEN ? AND ? AND survived ORDER BY step, seq",
        [&](const Statement& s) {
          one.step = s.Int(0);
          one.seq = static_cast<int>(s.Int(1));
          one.name = s.Text(2);
          one.algorithm = s.Text(3);
          one.grad_bytes = s.Int(4);
          one.wire_bytes = s.Int(5);
          one.first_arrival = s.Real(6);
          one.last_arrival = s.Real(7);
          one.end = s.Real(8);
          one.last_rank = static_cast<int>(s.Int(9));
          one.algbw = s.Real(10);
          one.busbw = s.Real(11);
          one.wait_s = s.Real(12);
          one.transfer_s = s.Real(13);
          one.timing = TimingOf(s.Text(14));
          row(one);
        },
        incarnation, first, last);
  }

  absl::Status EachSpan(int incarnation, int64_t step, const std::function<void(const SpanRow&)>& row) override {
    SpanRow one;
    one.incarnation = incarnation;
    one.step = step;
    return Each(
        "SELECT rank, number, thread, name, start, \"end\", flops, seq, arrival FROM span "
        "WHERE incarnation = ? AND step = ? ORDER BY rank, number",
        [&](const Statement& s) {
          one.rank = static_cast<int>(s.Int(0));
          one.number = static_cast<int>(s.Int(1));
          one.span.set_thread(ThreadOf(s.Text(2)));
          one.span.set_name(s.Text(3));
          one.span.set_start(s.Real(4));
          one.span.set_end(s.Real(5));
          one.span.set_flops(s.Real(6));
          one.seq = s.IsNull(7) ? -1 : static_cast<int>(s.Int(7));
          one.arrival = s.Real(8);
          row(one);
        },
        incarnation, step);
  }

  absl::Status EachMessage(int incarnation, int64_t step, const std::function<void(const MessageRow&)>& row) override {
    MessageRow one;
    one.incarnation = incarnation;
    one.step = step;
    return Each(
        "SELECT seq, number, \"from\", \"to\", bytes, sent, ready, came FROM message "
        "WHERE incarnation = ? AND step = ? ORDER BY seq, number",
        [&](const Statement& s) {
          one.seq = static_cast<int>(s.Int(0));
          one.number = static_cast<int>(s.Int(1));
          one.from = static_cast<int>(s.Int(2));
          one.to = static_cast<int>(s.Int(3));
          one.bytes = s.Int(4);
          one.sent = s.Real(5);
          one.ready = s.Real(6);
          one.came = s.Real(7);
          row(one);
        },
        incarnation, step);
  }

  absl::StatusOr<double> RolledBack(int64_t first, int64_t last) override {
    double seconds = 0;
    RETURN_IF_ERROR(Each(
        "SELECT SUM(step_s) FROM step WHERE NOT survived AND step BETWEEN ? AND ?",
        [&](const Statement& row) { seconds = row.Real(0); }, first, last));
    return seconds;
  }

  // From each step to the next by the key: a step has hundreds of rows.
  absl::StatusOr<std::vector<Sampled>> SampledSteps(int64_t first, int64_t last) override {
    std::vector<int> incarnations;
    RETURN_IF_ERROR(Each("SELECT DISTINCT incarnation FROM step ORDER BY incarnation",
                         [&](const Statement& row) { incarnations.push_back(static_cast<int>(row.Int(0))); }));
    std::vector<Sampled> steps;
    ASSIGN_OR_RETURN(Statement next, database_->Prepare("SELECT step, survived FROM span WHERE incarnation = ? AND "
                                                        "step >= ? ORDER BY step LIMIT 1"));
    for (const int incarnation : incarnations) {
      for (int64_t from = first;;) {
        RETURN_IF_ERROR(next.Start(incarnation, from));
        ASSIGN_OR_RETURN(const bool there, next.Step());
        if (!there || next.Int(0) > last) break;
        if (next.Int(1) != 0) steps.push_back({incarnation, next.Int(0)});
        from = next.Int(0) + 1;
      }
    }
    std::sort(steps.begin(), steps.end(), [](const Sampled& a, const Sampled& b) { return a.step < b.step; });
    return steps;
  }

  absl::StatusOr<std::vector<ClockRow>> Clocks() override {
    std::vector<ClockRow> clocks;
    RETURN_IF_ERROR(
        Each("SELECT rank, MAX(time), offset_s, drift, error_s, drift_error, incarnation FROM clock "
             "WHERE incarnation = (SELECT MAX(incarnation) FROM clock) GROUP BY rank ORDER BY rank",
             [&](const Statement& row) {
               ClockRow& clock = clocks.emplace_back();
               clock.rank = static_cast<int>(row.Int(0));
               clock.clock.set_time(row.Real(1));
               clock.clock.set_offset_s(row.Real(2));
               clock.clock.set_drift(row.Real(3));
               clock.clock.set_error_s(row.Real(4));
               clock.clock.set_drift_error(row.Real(5));
               clock.incarnation = static_cast<int>(row.Int(6));
             }));
    return clocks;
  }

  absl::StatusOr<std::vector<DroppedRow>> Dropped() override {
    std::vector<DroppedRow> dropped;
    RETURN_IF_ERROR(Each(
        "SELECT rank, incarnation, records, spans FROM dropped ORDER BY incarnation, rank", [&](const Statement& row) {
          dropped.push_back({static_cast<int>(row.Int(0)), static_cast<int>(row.Int(1)), row.Int(2), row.Int(3)});
        }));
    return dropped;
  }

  absl::StatusOr<std::vector<Timed>> Decisions() override {
    std::vector<Timed> decisions;
    RETURN_IF_ERROR(
        Each("SELECT time, step, kind, rule, reason FROM decision ORDER BY time, rowid", [&](const Statement& row) {
          Timed& one = decisions.emplace_back();
          one.time = row.Real(0);
          one.decision.set_step(row.Int(1));
          one.decision.set_kind(row.Text(2));
          one.decision.set_rule(row.Text(3));
          one.decision.set_reason(row.Text(4));
        }));
    return decisions;
  }

  absl::StatusOr<std::vector<EvaluationResult>> Evaluations() override {
    std::vector<EvaluationResult> all;
    RETURN_IF_ERROR(Each("SELECT step, split, metric, value FROM evaluation WHERE survived ORDER BY step, split",
                         [&](const Statement& row) {
                           if (all.empty() || all.back().step() != row.Int(0) || all.back().split() != row.Text(1)) {
                             all.emplace_back().set_step(row.Int(0));
                             all.back().set_split(row.Text(1));
                             all.back().set_seconds(row.Real(4));
                           }
                           (*all.back().mutable_metrics())[row.Text(2)] = row.IsNull(3) ? std::nan("") : row.Real(3);
                         }));
    return all;
  }

 private:
  // Calls `each` on every row of `sql` with these values for its parameters.
  template <typename Row, typename... Values>
  absl::Status Each(absl::string_view sql, Row each, const Values&... values) {
    ASSIGN_OR_RETURN(Statement statement, database_->Prepare(sql));
    RETURN_IF_ERROR(statement.Start(values...));
    for (;;) {
      ASSIGN_OR_RETURN(const bool there, statement.Step());
      if (!there) return absl::OkStatus();
      each(statement);
      for (int column = 0; column < statement.columns(); ++column) {
        if (std::isfinite(statement.Real(column))) continue;  // others are never written, and what is no number is 0
        return absl::DataLossError(absl::StrCat(database_->path(), ": damaged: ", statement.Name(column),
                                                " in a row is infinite; `lockstep verify` tells what else is"));
      }
    }
  }

  const std::unique_ptr<Database> database_;
  const Transaction moment_;  // gone before the database
  const bool has_update_waits_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RunRecord>> OpenRunRecord(const std::string& path) {
  ASSIGN_OR_RETURN(auto database, Database::OpenToRead(path, kRunDbIdentity));
  ASSIGN_OR_RETURN(Transaction moment, Transaction::Begin(database.get(), /*write=*/false));
  ASSIGN_OR_RETURN(const bool has_update_waits, database->HasColumn("rank_step", "update_wait_s"));
  return std::make_unique<SqliteRunRecord>(std::move(database), std::move(moment), has_update_waits);
}

}  // namespace lockstep
