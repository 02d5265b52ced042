#include "coordinator/report/report.h"

#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/reported_run.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/observe/proto_json.h"
#include "coordinator/report/page_template.h"

namespace lockstep {
namespace {

struct ReportArguments {
  std::string run, steps, html, bench;
  bool json = false;
};

// What `lockstep bench allreduce --json` measured of a link; 0 if no file is named.
absl::StatusOr<double> LinkLimitOf(const std::string& file) {
  if (file.empty()) return 0.0;
  ASSIGN_OR_RETURN(const std::string text, FileSystem::Real()->Read(file));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("link_bytes_per_s") || !json["link_bytes_per_s"].is_number()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": not what `lockstep bench allreduce --json` writes: no link_bytes_per_s"));
  }
  const double limit = json["link_bytes_per_s"];
  if (limit > 0) return limit;
  return absl::InvalidArgumentError(absl::StrCat(file, ": measured on one host: no link between hosts is in it"));
}

absl::Status PrintReport(const ReportArguments& arguments) {
  ASSIGN_OR_RETURN(const StepRange steps, ParseStepRange(arguments.steps));
  ASSIGN_OR_RETURN(const double link_limit, LinkLimitOf(arguments.bench));
  ASSIGN_OR_RETURN(const Report report, ReportOfRun(arguments.run, steps, link_limit));
  if (!arguments.html.empty()) {
    if (PageTemplate().empty()) {
      return absl::FailedPreconditionError(
          "--html: this Lockstep was built without the charts' library; build it with deploy/build.sh");
    }
    RETURN_IF_ERROR(WriteOutput(arguments.html, ReportPage(report)));
    if (!arguments.json && std::filesystem::is_regular_file(arguments.html)) std::cout << arguments.html << std::endl;
  }
  if (arguments.json) {
    std::cout << JsonText(ToJson(report)) << std::flush;
  } else if (arguments.html.empty()) {
    std::cout << ReportText(report) << std::flush;
  }
  return absl::OkStatus();
}

}  // namespace

void AddReport(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand("report", "Where a run's time went, who was late, and what would help");
  auto arguments = std::make_shared<ReportArguments>();
  command->add_option("RUN", arguments->run, "The run")->required()->type_name("");
  command->add_option("--steps", arguments->steps, "Only these: A-B, A-, -B or A")->type_name("A-B");
  command->add_option("--html", arguments->html, "Write a page with charts to this file")->type_name("FILE");
  command
      ->add_option("--bench", arguments->bench, "Hold links against what `bench allreduce --json` wrote to this file")
      ->type_name("FILE");
  command->add_flag("--json", arguments->json, "As JSON");
  command->callback([=] { *action = [arguments] { return Fail(PrintReport(*arguments)); }; });
}

}  // namespace lockstep
