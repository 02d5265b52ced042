#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/state/rows.h"
#include "lockstep/journal.pb.h"
#include "lockstep/telemetry.pb.h"

namespace lockstep {

// The measurements of run.db row by row, for reports; all but clocks and dropped over surviving rows. Reads a run that
// is under way, has ended or was killed, as of the moment at which it was opened. Not thread-safe.
class RunRecord {
 public:
  virtual ~RunRecord() = default;

  // Surviving steps of one launch, without a gap but for what was lost.
  struct Stretch {
    int incarnation = 0;
    int64_t first = 0, last = 0, steps = 0;
  };
  // Where a rank ran, with how many cores that it could use (0: not known), and how its launch's gradients travelled
  // (empty: alone, or not known).
  struct Place {
    std::string host;
    int cores = 0;
    std::string algorithm;
  };
  using Places = std::map<int, std::map<int, Place>>;  // by launch and rank
  struct Outline {
    std::vector<Stretch> stretches;  // by first step
    Places places;
    double launched = 0;    // seconds since 1970, when the first worker joined; 0: none has
    std::string algorithm;  // how the latest launch's gradients travel; empty: alone, or not known
  };
  virtual absl::StatusOr<Outline> ReadOutline() = 0;

  // In order of steps (and ranks); the row is only good inside the call. Of a rank's step update_wait_s is -1 where the
  // run was begun before it was recorded.
  virtual absl::Status EachStep(int incarnation, int64_t first, int64_t last,
                                const std::function<void(const StepRow&)>& row) = 0;
  virtual absl::Status EachRankStep(int incarnation, int64_t first, int64_t last,
                                    const std::function<void(const RankStepRow&)>& row) = 0;
  virtual absl::Status EachCollective(int incarnation, int64_t first, int64_t last,
                                      const std::function<void(const CollectiveRow&)>& row) = 0;
  virtual absl::Status EachSpan(int incarnation, int64_t step, const std::function<void(const SpanRow&)>& row) = 0;

  virtual absl::Status EachMessage(int incarnation, int64_t step,
                                   const std::function<void(const MessageRow&)>& row) = 0;

  // Seconds inside steps that did not survive.
  virtual absl::StatusOr<double> RolledBack(int64_t first, int64_t last) = 0;

  // Steps that have spans.
  struct Sampled {
    int incarnation = 0;
    int64_t step = 0;
  };
  virtual absl::StatusOr<std::vector<Sampled>> SampledSteps(int64_t first, int64_t last) = 0;
  // The last of every rank.
  virtual absl::StatusOr<std::vector<ClockRow>> Clocks() = 0;
  virtual absl::StatusOr<std::vector<DroppedRow>> Dropped() = 0;
  // With their times, seconds since 1970; an evaluation's is that of the step before it.
  struct Timed {
    double time = 0;
    Decision decision;
  };
  virtual absl::StatusOr<std::vector<Timed>> Decisions() = 0;
  virtual absl::StatusOr<std::vector<EvaluationResult>> Evaluations() = 0;
};
// Errors as Database::OpenToRead.
absl::StatusOr<std::unique_ptr<RunRecord>> OpenRunRecord(const std::string& path);

}  // namespace lockstep
