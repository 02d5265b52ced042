#include "coordinator/cli/reported_run.h"

#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/report/report.h"
#include "coordinator/store/run_record.h"

namespace lockstep {

absl::StatusOr<StepRange> ParseStepRange(const std::string& text) {
  StepRange range;
  if (text.empty()) return range;
  const std::pair<absl::string_view, absl::string_view> ends = absl::StrSplit(text, absl::MaxSplits('-', 1));
  const bool dash = absl::StrContains(text, '-');
  bool good = ends.first.empty() ? dash && !ends.second.empty() : absl::SimpleAtoi(ends.first, &range.first);
  if (!ends.second.empty()) good = good && absl::SimpleAtoi(ends.second, &range.last) && range.last >= range.first;
  if (!dash) range.last = range.first;
  if (good && range.first >= 1) return range;
  return absl::InvalidArgumentError(
      absl::StrCat("--steps ", text, ": write A-B, A- or -B, with A at least 1 and B not before it"));
}

absl::StatusOr<Report> ReportOfRun(const std::string& run, const StepRange& steps, double link_limit) {
  ASSIGN_OR_RETURN(const std::string folder, FindRunFolder(run));
  ASSIGN_OR_RETURN(const RunConfig config, ConfigOfRun(folder));
  ASSIGN_OR_RETURN(const RunOverview overview, ReadOverview(folder));
  ASSIGN_OR_RETURN(const std::unique_ptr<RunRecord> record, OpenRunRecord(JoinPath(folder, "run.db")));
  ReportRequest request;
  request.name = overview.name;
  request.folder = folder;
  request.state = StateWord(overview);
  request.first_step = steps.first;
  request.last_step = steps.last;
  request.link_limit = link_limit;
  request.faults = overview.faults;
  ASSIGN_OR_RETURN(Report report, MakeReport(config, request, record.get()));
  const bool asked = steps.first > 1 || steps.last > 0;
  if (!asked || report.run().steps() > 0) return report;
  return absl::NotFoundError(absl::StrCat("--steps: ", folder, " has no step on record in that range"));
}

}  // namespace lockstep
