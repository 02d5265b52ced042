#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/state/rows.h"
#include "lockstep/journal.pb.h"
#include "lockstep/telemetry.pb.h"

namespace lockstep {

struct EpochRow {
  EpochDone done;
  uint64_t expected_fingerprint = 0;
};

// run.db, the record that people read with pandas: tables and columns as in the README. Columns beyond those of the
// design: `incarnation` and `survived` (0: rolled back by a resume) in step, rank_step, collective, epoch, evaluation.
// One writer; a row written again (same key) replaces the old one, without bringing back one that was rolled back.
// Every call is one transaction: all of it is there for readers afterwards, or after an error nothing. What a call
// wrote outlives a killed process; a power cut may take the last seconds. Not thread-safe.
//
// What is not known or not finite is NULL: the interval of a first step, a gradient norm that nobody asked for.
class RunDb {
 public:
  virtual ~RunDb() = default;
  // The measurements. Those of an incarnation after what a later one went on from are rolled back, whenever they come.
  virtual absl::Status Write(const TelemetryRows& rows) = 0;
  // What run.db shows of the journal: epochs, evaluations, decisions, checkpoints, ranks, and what a resume rolled
  // back. Takes the journal's updates in their order, from the first one: those up to shown_through() change nothing.
  //
  // A resume from `step` rolls back the rows after it of the incarnations before; an evaluation at `step` itself, or an
  // epoch that ends there, goes once a later incarnation writes it again.
  virtual absl::Status Show(const Update& update) = 0;
  // The last update that the tables show; those that have no rows are passed over.
  virtual int64_t shown_through() const = 0;
};
// Whether Show takes note of it: the kinds above, and a launch's end.
bool IsShown(const Update& update);
// Creates the file if it is not there. `warning` as for OpenJournal.
absl::StatusOr<std::unique_ptr<RunDb>> OpenRunDb(const std::string& path, std::string* warning);

// What the summary and `status` of an ended run need, by SQL. All over surviving rows.
struct PartSummary {
  std::string part;             // data_wait … other, then step
  double mean_s = 0;            // over all ranks' steps
  double p50_s = 0, p95_s = 0;  // nearest rank, over the ranks' steps that are recorded (up to 64 ranks: all)
  double share = 0;             // of the step's mean
};
struct RunFigures {
  int64_t steps = 0;
  int ranks = 0;  // of the latest incarnation
  int incarnations = 0;
  int64_t rolled_back_steps = 0;
  double step_time_s = 0;         // inside surviving steps, mean over ranks
  double rolled_back_time_s = 0;  // inside the others
  double samples_per_s = 0;       // over the time inside steps
  double overlap_ratio = 0;
  std::vector<PartSummary> parts;
  int slowest_rank = -1;     // that arrived last most often
  double slowest_share = 0;  // of the steps in which the last one is known
  std::string slowest_host;
  double first_step_time = 0;  // seconds since 1970
  // From the first launch to the stop by target, time between launches left out; unset: the target was not reached.
  std::optional<double> time_to_target_s;
  std::vector<EvaluationResult> evaluations;
  std::vector<Decision> decisions;
  std::vector<EpochRow> epochs;                  // surviving ones
  std::vector<CheckpointCommitted> checkpoints;  // by step
};
// Reads a run that is under way, has ended or was killed, in a folder that can be written or not. Not thread-safe.
class RunDbReader {
 public:
  virtual ~RunDbReader() = default;
  // Of one moment, whatever is written meanwhile.
  virtual absl::StatusOr<RunFigures> Figures() = 0;
};
absl::StatusOr<std::unique_ptr<RunDbReader>> OpenRunDbReader(const std::string& path);

}  // namespace lockstep
