#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status.h"
#include "common/data/plan.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite_run_db.h"

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

}  // namespace

bool IsShown(const Update& update) {
  switch (update.kind_case()) {
    case Update::kRunStarted:
    case Update::kWorkerJoined:
    case Update::kWorkerLeft:
    case Update::kEvaluated:
    case Update::kEpochDone:
    case Update::kDecision:
    case Update::kCheckpointCommitted:
    case Update::kCommunicationChosen:
    case Update::kRunEnded:
      return true;
    default:
      return false;
  }
}

absl::StatusOr<SqliteRunDb::Inserts> SqliteRunDb::Inserts::Prepare(Database* db) {
  ASSIGN_OR_RETURN(Statement step, db->Prepare(InsertSql("step", 27)));
  ASSIGN_OR_RETURN(Statement rank_step, db->Prepare(InsertSql("rank_step", 28)));
  ASSIGN_OR_RETURN(Statement collective, db->Prepare(InsertSql("collective", 17)));
  ASSIGN_OR_RETURN(Statement span, db->Prepare(InsertSql("span", 12)));
  ASSIGN_OR_RETURN(Statement message, db->Prepare(InsertSql("message", 11)));
  ASSIGN_OR_RETURN(Statement clock, db->Prepare(InsertSql("clock", 7)));
  ASSIGN_OR_RETURN(Statement dropped, db->Prepare(InsertSql("dropped", 4)));
  ASSIGN_OR_RETURN(Statement epoch, db->Prepare(InsertSql("epoch", 8)));
  ASSIGN_OR_RETURN(Statement evaluation, db->Prepare(InsertSql("evaluation", 9)));
  ASSIGN_OR_RETURN(Statement decision, db->Prepare(InsertSql("decision", 8)));
  ASSIGN_OR_RETURN(Statement checkpoint, db->Prepare(InsertSql("checkpoint", 7)));
  ASSIGN_OR_RETURN(Statement communication, db->Prepare(InsertSql("communication", 7)));
  ASSIGN_OR_RETURN(Statement rank, db->Prepare(InsertSql("rank", 8)));
  ASSIGN_OR_RETURN(Statement left,
                   db->Prepare("UPDATE rank SET \"left\" = ?, why = ? WHERE incarnation = ? AND rank = ?"));
  ASSIGN_OR_RETURN(Statement shown, db->Prepare("UPDATE shown SET through = ?"));
  return Inserts{std::move(step),       std::move(rank_step), std::move(collective), std::move(span),
                 std::move(message),    std::move(clock),     std::move(dropped),    std::move(epoch),
                 std::move(evaluation), std::move(decision),  std::move(checkpoint), std::move(communication),
                 std::move(rank),       std::move(left),      std::move(shown)};
}

absl::StatusOr<std::unique_ptr<SqliteRunDb>> SqliteRunDb::Make(std::unique_ptr<Database> database) {
  // A run may have been begun before this was recorded.
  ASSIGN_OR_RETURN(const bool has, database->HasColumn("rank_step", "update_wait_s"));
  if (!has) RETURN_IF_ERROR(database->Execute("ALTER TABLE rank_step ADD COLUMN update_wait_s REAL"));
  ASSIGN_OR_RETURN(Inserts inserts, Inserts::Prepare(database.get()));
  int64_t through = 0;
  {
    ASSIGN_OR_RETURN(Statement shown, database->Prepare("SELECT through FROM shown"));
    ASSIGN_OR_RETURN(const bool row, shown.Step());
    if (!row) {
      return absl::DataLossError(absl::StrCat(database->path(),
                                              ": damaged, its table `shown` is empty; move it away, "
                                              "and a resume makes it anew from the journal"));
    }
    through = shown.Int(0);
  }
  return std::unique_ptr<SqliteRunDb>(new SqliteRunDb(std::move(database), std::move(inserts), through));
}

absl::Status SqliteRunDb::Write(const TelemetryRows& rows) {
  if (rows.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database_.get()));
  for (const StepRow& row : rows.steps) RETURN_IF_ERROR(Insert(row));
  for (const RankStepRow& row : rows.rank_steps) RETURN_IF_ERROR(Insert(row));
  for (const CollectiveRow& row : rows.collectives) RETURN_IF_ERROR(Insert(row));
  for (const SpanRow& row : rows.spans) RETURN_IF_ERROR(Insert(row));
  for (const MessageRow& row : rows.messages) RETURN_IF_ERROR(Insert(row));
  for (const ClockRow& row : rows.clocks) RETURN_IF_ERROR(Insert(row));
  for (const DroppedRow& row : rows.dropped) RETURN_IF_ERROR(Insert(row));
  return transaction.Commit();
}

absl::Status SqliteRunDb::Show(const Update& update) {
  if (!IsShown(update)) return absl::OkStatus();
  if (update.seq() <= shown_through_) {
    if (update.has_run_started()) Begin(update.run_started());
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database_.get()));
  RETURN_IF_ERROR(ShowKind(update));
  RETURN_IF_ERROR(inserts_.shown.Run(update.seq()));
  RETURN_IF_ERROR(transaction.Commit());
  shown_through_ = update.seq();
  if (update.has_run_started()) Begin(update.run_started());
  return absl::OkStatus();
}

absl::Status SqliteRunDb::ShowKind(const Update& update) {
  switch (update.kind_case()) {
    case Update::kRunStarted:
      return RollBack(update.run_started());
    case Update::kWorkerJoined: {
      const WorkerJoined& joined = update.worker_joined();
      return inserts_.rank.Run(joined.rank(), joined.incarnation(), joined.host(), joined.pid(), joined.cores(),
                               update.time(), kNull, "");
    }
    case Update::kWorkerLeft: {
      const WorkerLeft& left = update.worker_left();
      return inserts_.left.Run(update.time(), left.why().empty() ? "done" : left.why(), left.incarnation(),
                               left.rank());
    }
    case Update::kEvaluated:
      return ShowEvaluation(update.evaluated());
    case Update::kEpochDone:
      return ShowEpoch(update.epoch_done());
    case Update::kDecision: {
      const Decision& decision = update.decision();
      return inserts_.decision.Run(update.time(), decision.step(), decision.kind(), decision.rule(), decision.reason(),
                                   decision.directive(), decision.signal(), decision.failure());
    }
    case Update::kCheckpointCommitted: {
      const CheckpointCommitted& checkpoint = update.checkpoint_committed();
      return inserts_.checkpoint.Run(checkpoint.step(), checkpoint.path(), checkpoint.bytes(), checkpoint.snapshot_s(),
                                     checkpoint.write_s(), update.time(), checkpoint.best());
    }
    case Update::kCommunicationChosen:
      return ShowCommunication(update.communication_chosen());
    default:
      return absl::OkStatus();
  }
}

absl::Status SqliteRunDb::ShowCommunication(const CommunicationChosen& chosen) {
  const auto show = [&](int64_t bytes, const std::string& algorithm, double seconds, bool is_chosen) {
    return inserts_.communication.Run(bytes, algorithm, seconds, is_chosen, chosen.structure(), chosen.source(),
                                      chosen.incarnation());
  };
  for (const CommunicationChosen::Measured& one : chosen.measured()) {
    RETURN_IF_ERROR(show(one.bytes(), one.algorithm(), one.seconds(), one.chosen()));
  }
  if (!chosen.measured().empty()) return absl::OkStatus();
  // The structure itself is the way where gradients do not go by messages.
  if (chosen.ways().empty()) return show(0, chosen.structure(), kNull, true);
  for (int i = 0; i < chosen.ways_size(); ++i) {
    const int64_t from = i == 0 ? 0 : chosen.ways(i - 1).up_to_bytes() + 1;
    RETURN_IF_ERROR(show(from, chosen.ways(i).algorithm(), kNull, true));
  }
  return absl::OkStatus();
}

absl::Status SqliteRunDb::ShowEpoch(const EpochDone& done) {
  RETURN_IF_ERROR(
      Execute("UPDATE epoch SET survived = 0 WHERE epoch = ? AND incarnation < ?", done.epoch(), incarnation_));
  return inserts_.epoch.Run(done.epoch(), done.steps(), done.samples(), Hex(done.fingerprint()),
                            Hex(EpochFingerprint(done.epoch(), train_samples_)), done.seconds(), incarnation_, true);
}

absl::Status SqliteRunDb::ShowEvaluation(const EvaluationResult& result) {
  RETURN_IF_ERROR(Execute("UPDATE evaluation SET survived = 0 WHERE step = ? AND split = ? AND incarnation < ?",
                          result.step(), result.split(), incarnation_));
  for (const auto& [metric, value] : result.metrics()) {
    RETURN_IF_ERROR(inserts_.evaluation.Run(result.step(), result.epoch(), result.split(), metric, value,
                                            result.samples(), result.seconds(), incarnation_, true));
  }
  return absl::OkStatus();
}

absl::Status SqliteRunDb::RollBack(const RunStarted& started) {
  const int64_t step = started.from().cursor().step();
  // One incarnation after the other, so that the primary key finds the rows.
  for (int earlier = 1; earlier < started.incarnation(); ++earlier) {
    for (const char* table : {"step", "rank_step", "collective", "span", "message", "evaluation"}) {
      const std::string sql = absl::StrCat("UPDATE ", table, " SET survived = 0 WHERE incarnation = ? AND step > ?");
      RETURN_IF_ERROR(Execute(sql, earlier, step));
    }
  }
  return Execute("UPDATE epoch SET survived = 0 WHERE (epoch + 1) * steps > ? AND incarnation < ?", step,
                 started.incarnation());
}

void SqliteRunDb::Begin(const RunStarted& started) {
  incarnation_ = started.incarnation();
  train_samples_ = started.train_samples();
  rolled_back_.push_back({started.from().cursor().step(), incarnation_});
}

absl::Status SqliteRunDb::Insert(const StepRow& row) {
  const StepRecord& m = row.mean;
  return inserts_.step.Run(m.step(), m.epoch(), row.time, row.loss, m.samples(), m.lr(), m.step_s(), m.data_wait_s(),
                           m.forward_s(), m.backward_s(), m.comm_exposed_s(), m.optimizer_s(), m.other_s(),
                           row.step_max_s, m.comm_busy_s(), m.comm_wait_s(), m.comm_transfer_s(), row.overlap_ratio,
                           NullIfZero(m.comm_interval_s()), row.last_rank, m.grad_bytes(), m.wire_bytes(),
                           NullIfZero(m.grad_norm()), TimingName(row.timing), m.clock_error_s(), row.incarnation,
                           Survives(m.step(), row.incarnation));
}

absl::Status SqliteRunDb::Insert(const RankStepRow& row) {
  const StepRecord& r = row.record;
  const double loss = r.samples() > 0 ? r.loss_sum() / static_cast<double>(r.samples()) : kNull;
  return inserts_.rank_step.Run(
      r.step(), row.rank, r.start(), r.step_s(), r.data_wait_s(), r.forward_s(), r.backward_s(), r.comm_exposed_s(),
      r.optimizer_s(), r.other_s(), r.epoch(), loss, r.samples(), NullIfZero(r.arrival()), r.comm_busy_s(),
      r.comm_overlap_s(), r.comm_wait_s(), r.comm_transfer_s(), NullIfZero(r.comm_interval_s()), r.grad_bytes(),
      r.wire_bytes(), r.input_read_s(), r.input_decode_s(), r.input_ready(), r.clock_error_s(), row.incarnation,
      Survives(r.step(), row.incarnation), r.update_wait_s());
}

absl::Status SqliteRunDb::Insert(const CollectiveRow& row) {
  return inserts_.collective.Run(row.step, row.seq, row.name, row.grad_bytes, row.wire_bytes, row.algorithm,
                                 row.first_arrival, row.last_arrival, row.end, row.last_rank, row.algbw, row.busbw,
                                 row.wait_s, row.transfer_s, TimingName(row.timing), row.incarnation,
                                 Survives(row.step, row.incarnation));
}

absl::Status SqliteRunDb::Insert(const SpanRow& row) {
  const SpanRecord& s = row.span;
  return inserts_.span.Run(row.step, row.rank, row.number, TraceThreadName(s.thread()), s.name(), s.start(), s.end(),
                           NullIfZero(s.flops()), row.seq < 0 ? kNull : row.seq, NullIfZero(row.arrival),
                           row.incarnation, Survives(row.step, row.incarnation));
}

absl::Status SqliteRunDb::Insert(const MessageRow& row) {
  return inserts_.message.Run(row.step, row.seq, row.number, row.from, row.to, row.bytes, NullIfZero(row.sent),
                              row.ready, row.came, row.incarnation, Survives(row.step, row.incarnation));
}

absl::Status SqliteRunDb::Insert(const ClockRow& row) {
  const ClockRecord& c = row.clock;
  return inserts_.clock.Run(row.rank, c.time(), c.offset_s(), c.drift(), c.error_s(), c.drift_error(), row.incarnation);
}

absl::Status SqliteRunDb::Insert(const DroppedRow& row) {
  return inserts_.dropped.Run(row.rank, row.records, row.spans, row.incarnation);
}

bool SqliteRunDb::Survives(int64_t step, int incarnation) const {
  for (const RolledBack& r : rolled_back_) {
    if (step > r.after_step && incarnation < r.before_incarnation) return false;
  }
  return true;
}

absl::StatusOr<std::unique_ptr<RunDb>> OpenRunDb(const std::string& path, std::string* warning) {
  ASSIGN_OR_RETURN(auto database, Database::OpenToWrite(path, kRunDbIdentity, kRunDbSchema,
                                                        Database::Durability::kMostCommits, warning));
  return SqliteRunDb::Make(std::move(database));
}

}  // namespace lockstep
