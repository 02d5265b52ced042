#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/store/journal.h"

namespace lockstep {

struct RunDbCheck {
  int64_t shown_through = 0;           // the update of the journal to which run.db stands, by its own word
  int64_t behind = 0;                  // updates after it that have rows: of a live run, or of one that was cut off
  int64_t rows = 0;                    // of what the journal gives (epoch, decision, rank …), compared with the journal
  std::vector<std::string> different;  // a sentence for each that is missing, added or changed
  int64_t steps = 0;                   // surviving steps, each there once, of all ranks
  int64_t cut_off = 0;                 // steps whose record went with a launch that was killed, or is on its way
  std::vector<std::string> uncounted;  // a sentence for each stretch of steps that is missing or not whole
};
// Compares run.db with the journal of the same run. What the journal gives is made anew, row by row, and must be there
// exactly; of the steps, which the journal does not hold, every one that survived must be there, with all ranks' rows
// and the samples of its epoch. Measured times and losses are not sealed by anything. Live runs as well.
absl::StatusOr<RunDbCheck> CheckRunDb(const std::string& run_db_path, Journal* journal);

}  // namespace lockstep
