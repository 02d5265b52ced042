#include "coordinator/cli/end_of_run.h"

#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/cli/command.h"
#include "coordinator/observe/summary.h"
#include "coordinator/store/run_db.h"

namespace lockstep {

absl::StatusOr<std::string> SummaryOf(const RunOverview& overview, int exit_code, const std::string& why) {
  ASSIGN_OR_RETURN(const std::unique_ptr<RunDbReader> reader, OpenRunDbReader(JoinPath(overview.folder, "run.db")));
  ASSIGN_OR_RETURN(const RunFigures figures, reader->Figures());
  SummaryContext context;
  context.name = overview.name;
  context.folder = overview.folder;
  context.exit_code = exit_code;
  context.why = why;
  context.stop = overview.stop;
  context.metric = overview.metric;
  context.best_step = overview.best_step;
  context.best_value = overview.best_value;
  context.target = overview.target;
  context.elapsed_s = overview.elapsed_s;
  context.last_checkpoint = overview.last_checkpoint;
  return FormatSummary(figures, context);
}

int PrintEndOfRun(const std::string& run_folder, int exit_code, const std::string& why) {
  std::cout << std::flush;
  if (exit_code == kExitBadUsage) {
    std::cerr << "lockstep: " << why << std::endl;
    return exit_code;
  }
  const absl::StatusOr<RunOverview> overview = ReadOverview(run_folder);
  if (exit_code == kExitDone || exit_code == kExitStopped) {
    const absl::StatusOr<std::string> summary =
        overview.ok() ? SummaryOf(*overview, exit_code, why) : absl::StatusOr<std::string>(overview.status());
    // The run itself went well: a summary that cannot be read does not change how it ended.
    if (summary.ok()) {
      std::cout << *summary << std::flush;
    } else {
      std::cerr << "lockstep: no summary: " << summary.status().message() << std::endl;
    }
  }
  if (exit_code == kExitStopped) std::cout << "Stopped; " << HowToGoOn(run_folder) << std::endl;
  if (exit_code == kExitFailed) {
    // Resumed, the same settings lead to the same bits.
    const bool again = !overview.ok() || !overview->stop.has_value() || overview->stop->rule() != "non_finite";
    std::cerr << "lockstep: " << (why.empty() ? "the run failed" : why) << (again ? "; " + HowToGoOn(run_folder) : "")
              << std::endl;
  }
  return exit_code;
}

}  // namespace lockstep
