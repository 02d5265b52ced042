#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/reported_run.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/observe/text.h"
#include "coordinator/report/chrome_trace.h"
#include "coordinator/store/run_record.h"

namespace lockstep {
namespace {

// Without --steps so many: a browser opens more, but nobody looks at them.
constexpr size_t kSteps = 5;

struct TraceArguments {
  std::string run, steps, out;
};

absl::Status NoSteps(const std::string& run, const TraceArguments& arguments) {
  return absl::NotFoundError(absl::StrCat(
      run, ": no step", arguments.steps.empty() ? "" : absl::StrCat(" of ", arguments.steps),
      " was looked at closely; each profile.sample_every-th is: see --steps, or train with a smaller one"));
}

// The last ones, unless they were chosen.
absl::StatusOr<std::vector<RunRecord::Sampled>> StepsOf(const TraceArguments& arguments, RunRecord* record) {
  ASSIGN_OR_RETURN(const StepRange range, ParseStepRange(arguments.steps));
  ASSIGN_OR_RETURN(std::vector<RunRecord::Sampled> steps,
                   record->SampledSteps(range.first, range.last > 0 ? range.last : INT64_MAX));
  if (steps.empty()) return NoSteps(arguments.run, arguments);
  if (arguments.steps.empty() && steps.size() > kSteps) steps.erase(steps.begin(), steps.end() - kSteps);
  return steps;
}

absl::Status WriteTrace(const TraceArguments& arguments) {
  ASSIGN_OR_RETURN(const std::string folder, FindRunFolder(arguments.run));
  ASSIGN_OR_RETURN(const std::unique_ptr<RunRecord> record, OpenRunRecord(JoinPath(folder, "run.db")));
  ASSIGN_OR_RETURN(const std::vector<RunRecord::Sampled> steps, StepsOf(arguments, record.get()));
  ASSIGN_OR_RETURN(RunRecord::Outline outline, record->ReadOutline());
  std::map<int, std::string> hosts;
  std::vector<SpanRow> spans;
  for (const RunRecord::Sampled& step : steps) {
    for (const auto& [rank, place] : outline.places[step.incarnation]) hosts[rank] = place.host;
    RETURN_IF_ERROR(record->EachSpan(step.incarnation, step.step, [&](const SpanRow& row) { spans.push_back(row); }));
  }
  RETURN_IF_ERROR(WriteOutput(arguments.out, ChromeTrace(spans, hosts)));
  if (!std::filesystem::is_regular_file(arguments.out)) return absl::OkStatus();  // it went to whoever reads it
  std::cout << arguments.out << ": " << CountText(static_cast<int64_t>(steps.size()), "step") << ", from "
            << steps.front().step << " to " << steps.back().step << "; open it in ui.perfetto.dev or chrome://tracing"
            << std::endl;
  return absl::OkStatus();
}

}  // namespace

void AddTrace(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand("trace", "Sampled steps of all ranks, for Perfetto or Chrome");
  auto arguments = std::make_shared<TraceArguments>();
  command->add_option("RUN", arguments->run, "The run")->required()->type_name("");
  command->add_option("-o,--out", arguments->out, "The file to write")->required()->type_name("FILE");
  command->add_option("--steps", arguments->steps, "Of the sampled steps these: A-B, A- or -B (default: the last 5)")
      ->type_name("A-B");
  command->callback([=] { *action = [arguments] { return Fail(WriteTrace(*arguments)); }; });
}

}  // namespace lockstep
