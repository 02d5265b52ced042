#include <cmath>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/reported_run.h"
#include "coordinator/report/comparison.h"

namespace lockstep {
namespace {

struct CompareArguments {
  std::vector<std::string> runs;
  std::string steps;
  std::optional<double> target;
  bool json = false;
};

absl::Status Compare(const CompareArguments& arguments) {
  if (arguments.runs.size() < 2) return absl::InvalidArgumentError("lockstep compare takes two runs or more");
  if (arguments.target.has_value() && !std::isfinite(*arguments.target)) {
    return absl::InvalidArgumentError("--target is no number; give an accuracy or a loss, as 0.95");
  }
  const double target = arguments.target.value_or(std::numeric_limits<double>::quiet_NaN());  // the best of all
  ASSIGN_OR_RETURN(const StepRange steps, ParseStepRange(arguments.steps));
  std::vector<Report> reports;
  for (const std::string& run : arguments.runs) {
    ASSIGN_OR_RETURN(reports.emplace_back(), ReportOfRun(run, steps));
  }
  std::cout << (arguments.json ? ComparisonJson(reports, target) : ComparisonText(reports, target)) << std::flush;
  return absl::OkStatus();
}

}  // namespace

void AddCompare(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand("compare", "Runs side by side, against the first");
  auto arguments = std::make_shared<CompareArguments>();
  command->add_option("RUN", arguments->runs, "The runs")->required()->type_name("");
  command->add_option("--steps", arguments->steps, "Only these: A-B, A-, -B or A")->type_name("A-B");
  command
      ->add_option("--target", arguments->target,
                   "Time to this accuracy, or loss where runs have no accuracy (default: the best that all reached)")
      ->type_name("VALUE");
  command->add_flag("--json", arguments->json, "As JSON");
  command->callback([=] { *action = [arguments] { return Fail(Compare(*arguments)); }; });
}

}  // namespace lockstep
