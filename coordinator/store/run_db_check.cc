#include "coordinator/store/run_db_check.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "coordinator/state/step_fold.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite_run_db.h"

namespace lockstep {
namespace {

// "step=7, kind=stop, …" → how many of it.
using Rows = std::map<std::string, int64_t>;

absl::StatusOr<Rows> ReadRows(Database* database, const char* table) {
  ASSIGN_OR_RETURN(Statement select, database->Prepare(absl::StrCat("SELECT * FROM ", table)));
  Rows rows;
  for (;;) {
    ASSIGN_OR_RETURN(const bool there, select.Step());
    if (!there) return rows;
    std::string row;
    for (int i = 0; i < select.columns(); ++i) {
      absl::StrAppend(&row, row.empty() ? "" : ", ", select.Name(i), "=", select.IsNull(i) ? "NULL" : select.Text(i));
    }
    ++rows[row];
  }
}

void Compare(const char* table, Rows expected, const Rows& shown, RunDbCheck* check) {
  for (const auto& [row, count] : shown) {
    check->rows += count;
    int64_t& left = expected[row];
    for (int64_t n = left; n < count; ++n) {
      check->different.push_back(absl::StrCat(table, " has a row that the journal does not give: ", row));
    }
    left -= count;
  }
  for (const auto& [row, left] : expected) {
    for (int64_t n = 0; n < left; ++n) check->different.push_back(absl::StrCat(table, " lacks a row: ", row));
  }
}

// An incarnation, as the journal tells it up to where run.db stands.
struct Incarnation {
  int64_t start_step = 0, last_step = 0;
  int world = 0;
  bool clean = false;  // it ended with all reports written
};

struct Story {
  std::map<int, Incarnation> incarnations;
  std::map<int, EpochDone> epochs;  // those that survived
  int64_t steps_per_epoch = 0;
};

void Follow(const Update& update, Story* story) {
  if (update.has_run_started()) {
    const RunStarted& started = update.run_started();
    const int64_t step = started.from().cursor().step();
    story->incarnations[started.incarnation()] = {step, step, started.world(), false};
    for (auto it = story->epochs.begin(); it != story->epochs.end();) {
      it = (it->first + 1) * it->second.steps() > step ? story->epochs.erase(it) : std::next(it);
    }
  }
  if (story->incarnations.empty()) return;
  Incarnation& now = story->incarnations.rbegin()->second;
  if (update.has_worker_left()) now.last_step = std::max(now.last_step, update.worker_left().step());
  if (update.has_run_ended()) now.clean = update.run_ended().exit_code() == 0 || update.run_ended().exit_code() == 3;
  if (update.has_epoch_done()) {
    story->epochs[update.epoch_done().epoch()] = update.epoch_done();
    story->steps_per_epoch = update.epoch_done().steps();
  }
}

// Walks over the rows of `step`, by incarnation and step.
class StepsCheck {
 public:
  StepsCheck(Story story, RunDbCheck* check) : story_(std::move(story)), check_(check) {
    int64_t upper = std::numeric_limits<int64_t>::max();
    for (auto it = story_.incarnations.rbegin(); it != story_.incarnations.rend(); ++it) {
      const Incarnation& incarnation = it->second;
      if (it == story_.incarnations.rbegin() && incarnation.clean) upper = incarnation.last_step;
      upper_[it->first] = upper;
      upper = std::min(upper, incarnation.start_step);
    }
  }

  absl::Status Run(Database* database) {
    ASSIGN_OR_RETURN(
        Statement select,
        database->Prepare(
            "SELECT step, incarnation, survived, samples, COUNT(rank), SUM(rank_samples) FROM "
            "(SELECT step.step, step.incarnation, step.survived, step.samples, rank_step.rank, rank_step.samples AS "
            "rank_samples FROM step LEFT JOIN rank_step ON rank_step.incarnation = step.incarnation AND "
            "rank_step.step = step.step AND rank_step.survived = step.survived) GROUP BY incarnation, step"));
    for (;;) {
      ASSIGN_OR_RETURN(const bool there, select.Step());
      if (!there) break;
      const int incarnation = static_cast<int>(select.Int(1));
      if (story_.incarnations.count(incarnation) == 0) {
        Complain(absl::StrCat("step ", select.Int(0), " is of incarnation ", incarnation,
                              ", of which the journal knows nothing"));
        continue;
      }
      if (current_ != incarnation) GoOnTo(incarnation);
      Take(select.Int(0), select.Int(2) != 0, select.Int(3), select.Int(4), select.Int(5));
    }
    GoOnTo(0);
    CheckEpochs();
    return absl::OkStatus();
  }

 private:
  void Complain(std::string what) { check_->uncounted.push_back(std::move(what)); }

  // Ends the present incarnation, and those up to `next` that have no rows. 0: no more.
  void GoOnTo(int next) {
    auto it = current_ == 0 ? story_.incarnations.begin() : story_.incarnations.find(current_);
    if (current_ != 0) End(it++);
    for (; it != story_.incarnations.end() && it->first != next; ++it) {
      Enter(it->second);
      End(it);
    }
    current_ = next;
    if (next != 0) Enter(story_.incarnations[next]);
  }
  void Enter(const Incarnation& incarnation) {
    expected_ = incarnation.start_step + 1;
    broken_.clear();
  }
  void End(std::map<int, Incarnation>::const_iterator it) {
    const int64_t upper = upper_[it->first];
    const bool known = upper != std::numeric_limits<int64_t>::max();
    if (it->second.clean) {
      if (!broken_.empty()) Complain(broken_);
      if (known && expected_ <= upper) Missing(expected_, upper);
    } else {
      check_->cut_off += broken_.empty() ? 0 : broken_steps_;
      if (known && expected_ <= upper) check_->cut_off += upper - expected_ + 1;
    }
  }
  void Missing(int64_t first, int64_t last) {
    Complain(first == last ? absl::StrCat("step ", first, " is missing")
                           : absl::StrCat("steps ", first, " to ", last, " are missing"));
  }

  void Take(int64_t step, bool survived, int64_t samples, int64_t ranks, int64_t rank_samples) {
    const Incarnation& incarnation = story_.incarnations[current_];
    const bool survives = step > incarnation.start_step && step <= upper_[current_];
    if (survived != survives) {
      return Complain(absl::StrCat("step ", step, " of incarnation ", current_, survived ? " is" : " is not",
                                   " marked as surviving, and by the journal it ", survives ? "is" : "is not"));
    }
    if (!survives) return;
    const bool whole =
        incarnation.world > StepFold::kMaxKeptRanks || (ranks == incarnation.world && rank_samples == samples);
    // Only a launch that was cut off may have such steps, at its end.
    if (step > expected_) Missing(expected_, step - 1);
    if (whole && !broken_.empty()) {
      Complain(std::exchange(broken_, ""));
    } else if (!whole) {
      if (broken_.empty()) broken_steps_ = 0;
      ++broken_steps_;
      broken_ = absl::StrCat("step ", step, " has ", samples, " samples, and the rows of ", ranks, " of ",
                             incarnation.world, " ranks with ", rank_samples);
    }
    expected_ = step + 1;
    if (!whole) return;
    ++check_->steps;
    if (story_.steps_per_epoch > 0) {
      auto& [count, sum] = by_epoch_[static_cast<int>((step - 1) / story_.steps_per_epoch)];
      ++count;
      sum += samples;
    }
  }

  void CheckEpochs() {
    for (const auto& [epoch, done] : story_.epochs) {
      const auto& [count, sum] = by_epoch_[epoch];
      if (count == done.steps() && sum != done.samples()) {
        Complain(absl::StrCat("the steps of epoch ", epoch + 1, " have ", sum, " samples together, and it has ",
                              done.samples()));
      }
    }
  }

  Story story_;
  RunDbCheck* const check_;
  std::map<int, int64_t> upper_;  // by incarnation: the last step of it that survived
  int current_ = 0;               // incarnation; 0: none yet
  int64_t expected_ = 0;
  std::string broken_;  // the last of the steps, up to the present one, that are not whole
  int64_t broken_steps_ = 0;
  std::map<int, std::pair<int64_t, int64_t>> by_epoch_;  // whole steps and their samples
};

}  // namespace

absl::StatusOr<RunDbCheck> CheckRunDb(const std::string& run_db_path, Journal* journal) {
  constexpr const char* kTables[] = {"epoch", "evaluation", "decision", "checkpoint", "communication", "rank"};
  ASSIGN_OR_RETURN(auto database, Database::OpenToRead(run_db_path, kRunDbIdentity));
  // One moment of it, before the journal is read: that is never behind.
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database.get(), false));
  RunDbCheck check;
  {
    ASSIGN_OR_RETURN(Statement shown, database->Prepare("SELECT through FROM shown"));
    ASSIGN_OR_RETURN(const bool row, shown.Step());
    if (row) check.shown_through = shown.Int(0);
  }
  ASSIGN_OR_RETURN(auto memory, Database::OpenInMemory(kRunDbIdentity, kRunDbSchema));
  ASSIGN_OR_RETURN(const std::unique_ptr<SqliteRunDb> expected, SqliteRunDb::Make(std::move(memory)));
  Story story;
  int64_t last = 0;
  RETURN_IF_ERROR(journal->Replay([&](const Update& update) {
    last = update.seq();
    if (update.seq() > check.shown_through) {
      check.behind += IsShown(update) ? 1 : 0;
      return absl::OkStatus();
    }
    Follow(update, &story);
    return expected->Show(update);
  }));
  if (check.shown_through > last) {
    check.different.push_back(
        absl::StrCat("run.db shows update ", check.shown_through, " of a journal that ends with update ", last));
  }
  for (const char* table : kTables) {
    ASSIGN_OR_RETURN(Rows rows, ReadRows(expected->database(), table));
    ASSIGN_OR_RETURN(const Rows shown, ReadRows(database.get(), table));
    Compare(table, std::move(rows), shown, &check);
  }
  RETURN_IF_ERROR(StepsCheck(std::move(story), &check).Run(database.get()));
  RETURN_IF_ERROR(transaction.Commit());
  return check;
}

}  // namespace lockstep
