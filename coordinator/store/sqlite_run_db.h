#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/store/run_db.h"
#include "coordinator/store/sqlite.h"

namespace lockstep {

// The room's own RunDb, over any database with kRunDbSchema.
class SqliteRunDb : public RunDb {
 public:
  static absl::StatusOr<std::unique_ptr<SqliteRunDb>> Make(std::unique_ptr<Database> database);

  absl::Status Write(const TelemetryRows& rows) override;
  absl::Status Show(const Update& update) override;
  int64_t shown_through() const override { return shown_through_; }

  Database* database() { return database_.get(); }

 private:
  // The prepared statements, the inserts with the columns of schema.cc in their order.
  struct Inserts {
    Statement step, rank_step, collective, span, message, clock, dropped;
    Statement epoch, evaluation, decision, checkpoint, communication, rank, left, shown;
    static absl::StatusOr<Inserts> Prepare(Database* db);
  };
  struct RolledBack {
    int64_t after_step;
    int before_incarnation;
  };

  SqliteRunDb(std::unique_ptr<Database> database, Inserts inserts, int64_t shown_through)
      : database_(std::move(database)), inserts_(std::move(inserts)), shown_through_(shown_through) {}

  absl::Status ShowKind(const Update& update);
  absl::Status ShowCommunication(const CommunicationChosen& chosen);
  absl::Status ShowEpoch(const EpochDone& done);
  absl::Status ShowEvaluation(const EvaluationResult& result);
  absl::Status RollBack(const RunStarted& started);
  void Begin(const RunStarted& started);
  absl::Status Insert(const StepRow& row);
  absl::Status Insert(const RankStepRow& row);
  absl::Status Insert(const CollectiveRow& row);
  absl::Status Insert(const SpanRow& row);
  absl::Status Insert(const MessageRow& row);
  absl::Status Insert(const ClockRow& row);
  absl::Status Insert(const DroppedRow& row);
  template <typename... Values>
  absl::Status Execute(absl::string_view sql, const Values&... values) {
    ASSIGN_OR_RETURN(Statement statement, database_->Prepare(sql));
    return statement.Run(values...);
  }
  // False for a row that comes late, after a roll-back that it falls under.
  bool Survives(int64_t step, int incarnation) const;

  const std::unique_ptr<Database> database_;
  Inserts inserts_;
  int64_t shown_through_;
  // Of the incarnation that the updates have come to.
  int incarnation_ = 0;
  int64_t train_samples_ = 0;
  std::vector<RolledBack> rolled_back_;
};

}  // namespace lockstep
