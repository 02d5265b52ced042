#pragma once

#include <optional>
#include <string>

#include "coordinator/store/run_db.h"
#include "lockstep/journal.pb.h"

namespace lockstep {

// What the summary says beside the figures of run.db.
struct SummaryContext {
  std::string name;
  std::string folder;  // of the run, as the person can type it
  int exit_code = 0;
  std::string why;               // how it ended; counts where no stop was decided
  std::optional<Decision> stop;  // unset: the last one among the figures' decisions, if any
  std::string metric;
  int64_t best_step = -1;  // -1: no evaluation yet
  double best_value = 0;
  std::optional<double> target;
  double elapsed_s = 0;          // run time over all launches; 0: not known
  int64_t last_checkpoint = -1;  // step; -1: none
};

// The end-of-run summary for people: several lines of at most 100 columns (a long path may exceed them).
std::string FormatSummary(const RunFigures& figures, const SummaryContext& context);

// The same as JSON, with names as in run.db: {name, folder, exit_code, stop, best, target, time_to_target_s, steps, …,
// parts: {data_wait: {mean_s, p50_s, p95_s, share}, …, step}, …, evaluations, decisions, epochs, checkpoints}.
std::string SummaryToJson(const RunFigures& figures, const SummaryContext& context);

}  // namespace lockstep
