#include "common/base/status.h"

#include <iostream>
#include <limits>
#include <memory>

#include "absl/strings/str_cat.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/end_of_run.h"
#include "coordinator/cli/operator_client.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/observe/progress.h"

namespace lockstep {
namespace {

// A run that is not live answers out of its folder, in the same shape.
StatusReply StatusOf(const RunOverview& overview) {
  StatusReply reply;
  reply.set_name(overview.name);
  reply.set_folder(overview.folder);
  reply.set_phase("ended");
  reply.set_step(overview.step);
  reply.set_elapsed_s(overview.elapsed_s);
  reply.set_best_step(overview.best_step);
  reply.set_best_value(overview.best_value);
  reply.set_metric(overview.metric);
  reply.set_last_checkpoint(overview.last_checkpoint);
  reply.set_exit_code(overview.exit_code);
  // Of a live run alone.
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  reply.set_loss(kUnknown);
  reply.set_samples_per_s(kUnknown);
  reply.set_exposed_fraction(kUnknown);
  reply.set_step_s(kUnknown);
  reply.set_eta_epoch_s(kUnknown);
  reply.set_final_step(overview.final_step);
  reply.set_steps_per_epoch(overview.steps_per_epoch);
  reply.set_epoch(overview.epoch);
  reply.set_epoch_step(overview.epoch_step);
  reply.set_incarnation(overview.incarnation);
  if (overview.steps_per_epoch > 0) {
    reply.set_epochs(static_cast<int>((overview.final_step + overview.steps_per_epoch - 1) / overview.steps_per_epoch));
  }
  if (overview.stop.has_value()) *reply.mutable_stop() = *overview.stop;
  return reply;
}

// The summary where anything was recorded; else the little that there is.
std::string EndText(const RunOverview& overview) {
  std::string text;
  const std::string why = overview.why.empty() ? "cut off" : overview.why;
  if (overview.last_checkpoint >= 0) {
    const absl::StatusOr<std::string> summary = SummaryOf(overview, overview.exit_code, why);
    if (summary.ok()) text = *summary;
  }
  if (text.empty()) text = absl::StrCat("Run ", overview.name, ": ", why, "\n");
  if (!overview.ended) absl::StrAppend(&text, "Not live; ", HowToGoOn(overview.folder), "\n");
  return text;
}

absl::StatusOr<int> Status(const std::string& run, bool json) {
  ASSIGN_OR_RETURN(const std::string folder, FindRunFolder(run));
  absl::StatusOr<LiveRun> live = FindLiveRun(run);
  if (live.ok()) {
    ASSIGN_OR_RETURN(const StatusReply reply, live->client->GetStatus(0));
    std::cout << (json ? StatusJson(reply) : StatusText(reply)) << std::flush;
    return kExitDone;
  }
  ASSIGN_OR_RETURN(const RunOverview overview, ReadOverview(folder));
  std::cout << (json ? StatusJson(StatusOf(overview)) : EndText(overview)) << std::flush;
  return kExitDone;
}

}  // namespace

void AddStatus(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand("status", "Where a run is: step, loss, metrics, workers");
  auto run = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("RUN", *run, "A run's folder or name")->required()->type_name("");
  command->add_flag("--json", *json, "As JSON");
  command->callback([=] {
    *action = [run, json] {
      const absl::StatusOr<int> code = Status(*run, *json);
      return code.ok() ? *code : Fail(code.status());
    };
  });
}

}  // namespace lockstep
