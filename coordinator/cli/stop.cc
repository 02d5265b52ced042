#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "common/base/status.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/operator_client.h"

namespace lockstep {
namespace {

absl::Status Stop(const std::string& run, bool json) {
  ASSIGN_OR_RETURN(const LiveRun live, FindLiveRun(run));
  ASSIGN_OR_RETURN(const std::string said, live.client->RequestStop("lockstep stop", false));
  std::cout << (json ? nlohmann::json{{"folder", live.folder}, {"said", said}}.dump() : said) << std::endl;
  return absl::OkStatus();
}

}  // namespace

void AddStop(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand("stop", "Ask a live run to stop after a checkpoint");
  auto run = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("RUN", *run, "A run's folder or name")->required()->type_name("");
  command->add_flag("--json", *json, "As JSON");
  command->callback([=] {
    *action = [run, json] {
      const absl::Status status = Stop(*run, *json);
      return status.ok() ? kExitDone : Fail(status);
    };
  });
}

}  // namespace lockstep
