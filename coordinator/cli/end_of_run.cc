#include "coordinator/cli/end_of_run.h"

#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/observe/summary.h"
#include "coordinator/store/run_db.h"

namespace lockstep {

absl::StatusOr<std::string> SummaryOf(const std::string& folder, const StatusReply& last, int exit_code,
                                      const std::string& why) {
  ASSIGN_OR_RETURN(const std::unique_ptr<RunDbReader> reader, OpenRunDbReader(JoinPath(folder, "run.db")));
  ASSIGN_OR_RETURN(const RunFigures figures, reader->Figures());
  ASSIGN_OR_RETURN(const RunConfig config, ConfigOfRun(folder));
  SummaryContext context = SummaryContextOf(last);
  context.name = config.run().name();
  context.folder = folder;
  context.exit_code = exit_code;
  context.why = why;
  if (config.convergence().has_target()) context.target = config.convergence().target();
  return FormatSummary(figures, context);
}

int PrintEndOfRun(const std::string& run_folder, const StatusReply& last, int exit_code, const std::string& why) {
  std::cout << std::flush;
  if (exit_code == kExitDone || exit_code == kExitStopped) {
    const absl::StatusOr<std::string> summary = SummaryOf(run_folder, last, exit_code, why);
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
    const bool again = last.stop().rule() != "non_finite";
    std::cerr << "lockstep: " << (why.empty() ? "the run failed" : why) << (again ? "; " + HowToGoOn(run_folder) : "")
              << std::endl;
  }
  if (exit_code == kExitBadUsage) std::cerr << "lockstep: " << why << std::endl;
  return exit_code;
}

}  // namespace lockstep
