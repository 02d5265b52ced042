#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/statistics.h"
#include "common/base/status.h"
#include "coordinator/store/run_db.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite.h"

namespace lockstep {
namespace {

constexpr std::array<const char*, 7> kParts = {"data_wait", "forward", "backward", "comm_exposed",
                                               "optimizer", "other",   "step"};
constexpr size_t kStepPart = kParts.size() - 1;

// data_wait_s, forward_s, …
std::string PartColumns(absl::string_view before, absl::string_view after) {
  std::string columns;
  for (const char* part : kParts) absl::StrAppend(&columns, columns.empty() ? "" : ", ", before, part, "_s", after);
  return columns;
}

uint64_t FromHex(const std::string& text) {
  uint64_t value = 0;
  return absl::SimpleHexAtoi(text, &value) ? value : 0;
}

class SqliteRunDbReader : public RunDbReader {
 public:
  explicit SqliteRunDbReader(std::unique_ptr<Database> database) : database_(std::move(database)) {}

  absl::StatusOr<RunFigures> Figures() override {
    ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database_.get(), false));
    RunFigures figures;
    RETURN_IF_ERROR(ReadSteps(&figures));
    RETURN_IF_ERROR(ReadPercentiles(&figures));
    RETURN_IF_ERROR(ReadSlowest(&figures));
    RETURN_IF_ERROR(ReadEpochs(&figures));
    RETURN_IF_ERROR(ReadEvaluations(&figures));
    RETURN_IF_ERROR(ReadDecisions(&figures));
    RETURN_IF_ERROR(ReadCheckpoints(&figures));
    RETURN_IF_ERROR(transaction.Commit());
    return figures;
  }

 private:
  // Calls `row` on each row of `sql`.
  template <typename Row>
  absl::Status Each(absl::string_view sql, Row row) {
    ASSIGN_OR_RETURN(Statement statement, database_->Prepare(sql));
    for (;;) {
      ASSIGN_OR_RETURN(const bool there, statement.Step());
      if (!there) return absl::OkStatus();
      row(statement);
    }
  }

  absl::Status ReadSteps(RunFigures* figures) {
    const std::string sums =
        absl::StrCat("SELECT COUNT(*), SUM(samples), SUM(comm_busy_s), SUM(overlap_ratio * comm_busy_s), MIN(time), ",
                     PartColumns("AVG(", ")"), ", SUM(step_s) FROM step WHERE survived");
    RETURN_IF_ERROR(Each(sums, [figures](const Statement& row) {
      figures->steps = row.Int(0);
      figures->step_time_s = row.Real(5 + kParts.size());
      if (figures->step_time_s > 0) figures->samples_per_s = row.Real(1) / figures->step_time_s;
      if (row.Real(2) > 0) figures->overlap_ratio = row.Real(3) / row.Real(2);
      figures->first_step_time = row.Real(4);
      const double step_s = row.Real(5 + kStepPart);
      for (size_t i = 0; i < kParts.size(); ++i) {
        PartSummary part;
        part.part = kParts[i];
        part.mean_s = row.Real(5 + static_cast<int>(i));
        part.share = step_s > 0 ? part.mean_s / step_s : 0;
        figures->parts.push_back(part);
      }
    }));
    return Each("SELECT COUNT(*), SUM(step_s) FROM step WHERE NOT survived", [figures](const Statement& row) {
      figures->rolled_back_steps = row.Int(0);
      figures->rolled_back_time_s = row.Real(1);
    });
  }

  absl::Status ReadPercentiles(RunFigures* figures) {
    std::array<std::vector<double>, kParts.size()> values;
    const std::string sql = absl::StrCat("SELECT ", PartColumns("", ""), " FROM rank_step WHERE survived");
    RETURN_IF_ERROR(Each(sql, [&values](const Statement& row) {
      for (size_t i = 0; i < kParts.size(); ++i) {
        const int column = static_cast<int>(i);
        const double value = row.Real(column);
        if (value != 0 || !row.IsNull(column)) values[i].push_back(value);
      }
    }));
    for (size_t i = 0; i < kParts.size(); ++i) {
      figures->parts[i].p50_s = Percentile(&values[i], 0.5);
      figures->parts[i].p95_s = Percentile(&values[i], 0.95);
    }
    return absl::OkStatus();
  }

  absl::Status ReadSlowest(RunFigures* figures) {
    int64_t known = 0, most = 0;
    RETURN_IF_ERROR(
        Each("SELECT last_rank, COUNT(*) FROM step WHERE survived AND last_rank >= 0 GROUP BY last_rank "
             "ORDER BY last_rank",
             [&](const Statement& row) {
               known += row.Int(1);
               if (row.Int(1) <= most) return;
               most = row.Int(1);
               figures->slowest_rank = static_cast<int>(row.Int(0));
             }));
    if (known > 0) figures->slowest_share = static_cast<double>(most) / static_cast<double>(known);
    int newest = 0;
    return Each("SELECT rank, incarnation, host FROM rank ORDER BY incarnation, rank", [&](const Statement& row) {
      const int incarnation = static_cast<int>(row.Int(1));
      if (figures->incarnations == 0 || incarnation != newest) {
        ++figures->incarnations;
        figures->ranks = 0;
        newest = incarnation;
      }
      ++figures->ranks;
      if (row.Int(0) == figures->slowest_rank) figures->slowest_host = row.Text(2);
    });
  }

  absl::Status ReadEpochs(RunFigures* figures) {
    return Each(
        "SELECT epoch, steps, samples, fingerprint, expected_fingerprint, seconds FROM epoch WHERE survived "
        "ORDER BY epoch",
        [figures](const Statement& row) {
          EpochRow epoch;
          epoch.done.set_epoch(static_cast<int32_t>(row.Int(0)));
          epoch.done.set_steps(row.Int(1));
          epoch.done.set_samples(row.Int(2));
          epoch.done.set_fingerprint(FromHex(row.Text(3)));
          epoch.expected_fingerprint = FromHex(row.Text(4));
          epoch.done.set_seconds(row.Real(5));
          figures->epochs.push_back(std::move(epoch));
        });
  }

  absl::Status ReadEvaluations(RunFigures* figures) {
    return Each(
        "SELECT step, epoch, split, metric, value, samples, seconds FROM evaluation WHERE survived "
        "ORDER BY step, split, incarnation",
        [figures](const Statement& row) {
          std::vector<EvaluationResult>& all = figures->evaluations;
          if (all.empty() || all.back().step() != row.Int(0) || all.back().split() != row.Text(2)) {
            EvaluationResult& result = all.emplace_back();
            result.set_step(row.Int(0));
            result.set_epoch(static_cast<int32_t>(row.Int(1)));
            result.set_split(row.Text(2));
            result.set_samples(row.Int(5));
            result.set_seconds(row.Real(6));
          }
          (*all.back().mutable_metrics())[row.Text(3)] = row.IsNull(4) ? std::nan("") : row.Real(4);
        });
  }

  absl::Status ReadDecisions(RunFigures* figures) {
    std::optional<double> target_at;
    RETURN_IF_ERROR(
        Each("SELECT time, step, kind, rule, reason, directive, signal, failure FROM decision "
             "ORDER BY time, rowid",
             [&](const Statement& row) {
               Decision decision;
               decision.set_step(row.Int(1));
               decision.set_kind(row.Text(2));
               decision.set_rule(row.Text(3));
               decision.set_reason(row.Text(4));
               decision.set_directive(row.Int(5));
               decision.set_signal(row.Int(6) != 0);
               decision.set_failure(row.Int(7) != 0);
               if (decision.kind() == "stop" && decision.rule() == "target" && !target_at) {
                 target_at = row.Real(0);
               }
               figures->decisions.push_back(std::move(decision));
             }));
    if (target_at.has_value()) return ReadTimeTo(*target_at, &figures->time_to_target_s);
    return absl::OkStatus();
  }

  // Run time from the first launch to the moment `at`. A launch lasts from its first join to its last leave, or, when
  // the coordinator was killed with it, to its last recorded step; the one that holds `at` counts up to there.
  absl::Status ReadTimeTo(double at, std::optional<double>* seconds) {
    double before = 0, start = at, end = at;  // time of the launches before the present one, and that one's ends
    RETURN_IF_ERROR(
        Each("SELECT MIN(joined) AS start, MAX(\"left\"), (SELECT MAX(time + step_max_s) FROM step WHERE "
             "step.incarnation = rank.incarnation) FROM rank GROUP BY incarnation ORDER BY start",
             [&](const Statement& row) {
               if (row.Real(0) > at) return;
               before += std::max(end - start, 0.0);
               start = row.Real(0);
               end = std::max(row.Real(1), row.Real(2));
             }));
    *seconds = before + (at - start);
    return absl::OkStatus();
  }

  absl::Status ReadCheckpoints(RunFigures* figures) {
    return Each("SELECT step, path, bytes, snapshot_s, write_s, best FROM checkpoint ORDER BY step",
                [figures](const Statement& row) {
                  CheckpointCommitted& checkpoint = figures->checkpoints.emplace_back();
                  checkpoint.set_step(row.Int(0));
                  checkpoint.set_path(row.Text(1));
                  checkpoint.set_bytes(row.Int(2));
                  checkpoint.set_snapshot_s(row.Real(3));
                  checkpoint.set_write_s(row.Real(4));
                  checkpoint.set_best(row.Int(5) != 0);
                });
  }

  const std::unique_ptr<Database> database_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RunDbReader>> OpenRunDbReader(const std::string& path) {
  ASSIGN_OR_RETURN(auto database, Database::OpenToRead(path, kRunDbIdentity));
  return std::make_unique<SqliteRunDbReader>(std::move(database));
}

}  // namespace lockstep
