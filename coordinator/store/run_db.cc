#include "coordinator/store/run_db.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"

namespace lockstep {
namespace {

constexpr double kNull = std::numeric_limits<double>::quiet_NaN();  // which Statement stores as NULL

double NullIfZero(double value) { return value == 0 ? kNull : value; }

std::string InsertSql(absl::string_view table, int columns) {
  std::string sql = absl::StrCat("INSERT OR REPLACE INTO ", table, " VALUES (?");
  for (int i = 1; i < columns; ++i) sql += ", ?";
  return sql + ")";
}

std::string Hex(uint64_t fingerprint) { return absl::StrFormat("%016x", fingerprint); }

// The prepared statements of the writer, each with the columns of schema.cc in their order.
struct Inserts {
  Statement step, rank_step, collective, epoch, evaluation, decision, checkpoint, rank;

  static absl::StatusOr<Inserts> Prepare(Database* db) {
    ASSIGN_OR_RETURN(Statement step, db->Prepare(InsertSql("step", 25)));
    ASSIGN_OR_RETURN(Statement rank_step, db->Prepare(InsertSql("rank_step", 23)));
    ASSIGN_OR_RETURN(Statement collective, db->Prepare(InsertSql("collective", 14)));
    ASSIGN_OR_RETURN(Statement epoch, db->Prepare(InsertSql("epoch", 8)));
    ASSIGN_OR_RETURN(Statement evaluation, db->Prepare(InsertSql("evaluation", 9)));
    // Updated in place, so that decisions of one moment keep their order.
    ASSIGN_OR_RETURN(
        Statement decision,
        db->Prepare("INSERT INTO decision VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET reason = "
                    "excluded.reason, directive = excluded.directive, signal = excluded.signal, failure = "
                    "excluded.failure"));
    ASSIGN_OR_RETURN(Statement checkpoint, db->Prepare(InsertSql("checkpoint", 7)));
    ASSIGN_OR_RETURN(Statement rank, db->Prepare(InsertSql("rank", 7)));
    return Inserts{std::move(step),       std::move(rank_step), std::move(collective), std::move(epoch),
                   std::move(evaluation), std::move(decision),  std::move(checkpoint), std::move(rank)};
  }
};

class SqliteRunDb : public RunDb {
 public:
  SqliteRunDb(std::unique_ptr<Database> database, Inserts inserts)
      : database_(std::move(database)), inserts_(std::move(inserts)) {}

  absl::Status Write(const TelemetryRows& rows) override {
    if (rows.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database_.get()));
    for (const StepRow& row : rows.steps) RETURN_IF_ERROR(Insert(row));
    for (const RankStepRow& row : rows.rank_steps) RETURN_IF_ERROR(Insert(row));
    for (const CollectiveRow& row : rows.collectives) RETURN_IF_ERROR(Insert(row));
    return transaction.Commit();
  }

  absl::Status WriteEpoch(const EpochRow& row, int incarnation) override {
    const EpochDone& done = row.done;
    ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database_.get()));
    RETURN_IF_ERROR(
        Execute("UPDATE epoch SET survived = 0 WHERE epoch = ? AND incarnation < ?", done.epoch(), incarnation));
    RETURN_IF_ERROR(inserts_.epoch.Run(done.epoch(), done.steps(), done.samples(), Hex(done.fingerprint()),
                                       Hex(row.expected_fingerprint), done.seconds(), incarnation,
                                       Survives(LastStepOf(done), incarnation)));
    return transaction.Commit();
  }

  absl::Status WriteEvaluation(const EvaluationResult& result, int incarnation) override {
    ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database_.get()));
    RETURN_IF_ERROR(Execute("UPDATE evaluation SET survived = 0 WHERE step = ? AND split = ? AND incarnation < ?",
                            result.step(), result.split(), incarnation));
    for (const auto& [metric, value] : result.metrics()) {
      RETURN_IF_ERROR(inserts_.evaluation.Run(result.step(), result.epoch(), result.split(), metric, value,
                                              result.samples(), result.seconds(), incarnation,
                                              Survives(result.step(), incarnation)));
    }
    return transaction.Commit();
  }

  absl::Status WriteDecision(const Decision& decision, double time) override {
    return inserts_.decision.Run(time, decision.step(), decision.kind(), decision.rule(), decision.reason(),
                                 decision.directive(), decision.signal(), decision.failure());
  }

  absl::Status WriteCheckpoint(const CheckpointCommitted& checkpoint, double time) override {
    return inserts_.checkpoint.Run(checkpoint.step(), checkpoint.path(), checkpoint.bytes(), checkpoint.snapshot_s(),
                                   checkpoint.write_s(), time, checkpoint.best());
  }

  absl::Status WriteRank(const RankRow& row) override {
    return inserts_.rank.Run(row.rank, row.incarnation, row.host, row.pid, row.joined, NullIfZero(row.left), row.why);
  }

  absl::Status RollBack(int64_t step, int incarnation) override {
    ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database_.get()));
    for (const char* table : {"step", "rank_step", "collective", "evaluation"}) {
      const std::string sql = absl::StrCat("UPDATE ", table, " SET survived = 0 WHERE step > ? AND incarnation < ?");
      RETURN_IF_ERROR(Execute(sql, step, incarnation));
    }
    RETURN_IF_ERROR(
        Execute("UPDATE epoch SET survived = 0 WHERE (epoch + 1) * steps > ? AND incarnation < ?", step, incarnation));
    RETURN_IF_ERROR(transaction.Commit());
    rolled_back_.push_back({step, incarnation});
    return absl::OkStatus();
  }

 private:
  struct RolledBack {
    int64_t after_step;
    int before_incarnation;
  };

  absl::Status Insert(const StepRow& row) {
    const StepRecord& m = row.mean;
    return inserts_.step.Run(m.step(), m.epoch(), row.time, row.loss, m.samples(), m.lr(), m.step_s(), m.data_wait_s(),
                             m.forward_s(), m.backward_s(), m.comm_exposed_s(), m.optimizer_s(), m.other_s(),
                             row.step_max_s, m.comm_busy_s(), m.comm_wait_s(), m.comm_transfer_s(), row.overlap_ratio,
                             NullIfZero(m.comm_interval_s()), row.last_rank, m.grad_bytes(), m.wire_bytes(),
                             NullIfZero(m.grad_norm()), row.incarnation, Survives(m.step(), row.incarnation));
  }

  absl::Status Insert(const RankStepRow& row) {
    const StepRecord& r = row.record;
    const double loss = r.samples() > 0 ? r.loss_sum() / static_cast<double>(r.samples()) : kNull;
    return inserts_.rank_step.Run(r.step(), row.rank, r.start(), r.step_s(), r.data_wait_s(), r.forward_s(),
                                  r.backward_s(), r.comm_exposed_s(), r.optimizer_s(), r.other_s(), r.epoch(), loss,
                                  r.samples(), NullIfZero(r.arrival()), r.comm_busy_s(), r.comm_overlap_s(),
                                  r.comm_wait_s(), r.comm_transfer_s(), NullIfZero(r.comm_interval_s()), r.grad_bytes(),
                                  r.wire_bytes(), row.incarnation, Survives(r.step(), row.incarnation));
  }

  absl::Status Insert(const CollectiveRow& row) {
    return inserts_.collective.Run(row.step, row.seq, row.name, row.grad_bytes, row.wire_bytes, row.algorithm,
                                   row.first_arrival, row.last_arrival, row.end, row.last_rank, row.algbw, row.busbw,
                                   row.incarnation, Survives(row.step, row.incarnation));
  }

  template <typename... Values>
  absl::Status Execute(absl::string_view sql, const Values&... values) {
    ASSIGN_OR_RETURN(Statement statement, database_->Prepare(sql));
    return statement.Run(values...);
  }

  // All epochs of a run have the same number of steps.
  static int64_t LastStepOf(const EpochDone& done) { return (done.epoch() + int64_t{1}) * done.steps(); }

  // False for a row that comes late, after a roll-back that it falls under.
  bool Survives(int64_t step, int incarnation) const {
    for (const RolledBack& r : rolled_back_) {
      if (step > r.after_step && incarnation < r.before_incarnation) return false;
    }
    return true;
  }

  const std::unique_ptr<Database> database_;
  Inserts inserts_;
  std::vector<RolledBack> rolled_back_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RunDb>> OpenRunDb(const std::string& path, std::string* warning) {
  ASSIGN_OR_RETURN(auto database, Database::OpenToWrite(path, kRunDbIdentity, kRunDbSchema,
                                                        Database::Durability::kMostCommits, warning));
  ASSIGN_OR_RETURN(Inserts inserts, Inserts::Prepare(database.get()));
  return std::make_unique<SqliteRunDb>(std::move(database), std::move(inserts));
}

}  // namespace lockstep
