#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "coordinator/state/rows.h"
#include "lockstep/telemetry.pb.h"

namespace lockstep {

// Folds the ranks' step records into rows over all ranks. Pure. Reports are idempotent by (rank, step): one that is
// sent twice counts once. A step is ready once every rank has reported it; one that a lost report leaves open is
// folded from what is there when a step `kMaxOpenSteps` later is reported, or at Flush; what comes after that is late
// and not counted. A report costs O(log open steps), whatever the world: sums are kept, not records.
class StepFold {
 public:
  static constexpr int kMaxOpenSteps = 4096;
  // Rows that nobody takes: more are dropped, and counted.
  static constexpr int kMaxReady = 1 << 16;
  // Rank rows are kept for all ranks up to 64, then for every (world/64)-th and of the others for the last that came,
  // so many that a slow host can be told from ranks that take turns, and those that updated longest.
  static constexpr int kMaxKeptRanks = 64, kLastKept = 8, kLongestUpdatesKept = 2;
  StepFold(int world, int incarnation);

  // `rank` in [0, world).
  void Add(int rank, const StepBatch& batch);
  // The rows that became ready since the last call.
  TelemetryRows Take();
  // The rest as well, complete or not.
  TelemetryRows Flush();

  // Over the last few seconds of folded steps, for GetStatus. All 0: no step is folded yet.
  struct Recent {
    int64_t step = 0;
    double loss = 0, samples_per_s = 0, exposed_fraction = 0, step_s = 0;
  };
  Recent recent() const;
  // Records lost: by the workers, on their way, too late, or because nobody took their rows.
  int64_t dropped() const;
  int64_t last_step_of(int rank) const { return last_step_[rank]; }

 private:
  struct OpenCollective {
    CollectiveRow row;
    int ranks = 0;
    double arrivals = 0, ends = 0;  // sums over the ranks
    double shortest_s = 0;          // from a rank's arrival to its end
  };
  using Most = std::map<std::pair<double, int>, StepRecord>;  // the few with the largest value, by it and the rank
  struct Open {
    StepRecord sum;  // of what is averaged or added up
    std::vector<bool> seen;
    int ranks = 0;
    double start = 0, step_max_s = 0;
    double last_arrival = 0;
    int last_rank = -1;
    double shortest_busy_s = 0;
    double clock_error_s = 0;        // the largest
    std::map<int, StepRecord> kept;  // of the ranks whose rows are kept
    Most last, longest_updates;      // of the others; by arrival, by the optimizer's time
    std::map<int, OpenCollective> collectives;
    std::vector<ClockRow> clocks;
  };
  struct Lost {
    // What a rank dropped is missing here as well, if another rank has reported the step.
    int64_t records() const { return std::max(by_rank, missing) + untaken; }
    int64_t by_rank = 0, missing = 0, untaken = 0, spans = 0;
  };
  struct Point {  // of a folded step, for recent()
    double end = 0, loss_sum = 0, step_s = 0, exposed_s = 0;
    int64_t step = 0, samples = 0;
  };

  bool IsKept(int rank) const { return rank % keep_every_ == 0; }
  void AddRecord(int rank, const StepRecord& record);
  void AddTo(Open* open, int rank, const StepRecord& record);
  static void AddToMost(size_t count, double value, int rank, const StepRecord& record, Most* most);
  void AddCollectives(Open* open, int rank, const StepRecord& record);
  void Close(int64_t step, Open open);
  void CloseThrough(int64_t step);
  void MakeRankRows(int64_t step, Timing timing, Open* open);
  void MakeCollectiveRows(Open* open);
  void MakeMessageRows(int64_t step, const Open& open);
  void MakeSpanRows(int64_t step, int rank, const StepRecord& record);
  void Remember(const StepRow& row);

  const int world_, incarnation_, keep_every_;
  std::map<int64_t, Open> open_;
  int64_t closed_through_ = 0;  // all steps up to this one are folded or too late
  std::set<int64_t> closed_;    // those folded beyond it
  int64_t newest_ = 0;
  std::vector<int64_t> last_step_;  // by rank
  std::vector<Lost> lost_;          // by rank
  std::set<int> losers_;            // whose losses have grown since they were last taken
  TelemetryRows ready_;
  std::deque<Point> recent_;
};

}  // namespace lockstep
