#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/observe/text.h"

namespace lockstep {
namespace {

std::string BestText(const RunOverview& run) {
  if (run.best_step < 0) return "-";
  return absl::StrCat(run.metric, " ", FigureText(run.best_value), " at step ", run.best_step);
}

std::string AgeText(const RunOverview& run, double now) {
  return run.started > 0 ? absl::StrCat(DurationText(now - run.started), " ago") : "-";
}

nlohmann::ordered_json ToJson(const RunOverview& run, double now) {
  nlohmann::ordered_json json = {
      {"name", run.name}, {"folder", run.folder}, {"state", StateWord(run)}, {"step", run.step}};
  json["last_checkpoint"] = run.last_checkpoint;
  json["metric"] = run.metric;
  json["best_step"] = run.best_step;
  json["best_value"] = run.best_step < 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(run.best_value);
  json["started"] = run.started;
  json["age_s"] = run.started > 0 ? nlohmann::ordered_json(now - run.started) : nlohmann::ordered_json();
  json["elapsed_s"] = run.elapsed_s;
  json["why"] = run.why;
  return json;
}

int Runs(bool json) {
  const double now = UnixSeconds(absl::Now());
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  TextTable table({"run", "state", "step", "best", "started"}, {true, true, false, true, true});
  const std::vector<std::string> names = ListRuns();
  for (const std::string& name : names) {
    const absl::StatusOr<RunOverview> run = ReadOverview(JoinPath(RunsFolder(), name));
    if (run.ok()) {
      list.push_back(ToJson(*run, now));
      table.Add({name, StateWord(*run), CountText(static_cast<double>(run->step)), BestText(*run), AgeText(*run, now)});
    } else {
      list.push_back({{"name", name}, {"state", "unreadable"}, {"why", std::string(run.status().message())}});
      table.Add({name, "unreadable", "-", std::string(run.status().message()), "-"});
    }
  }
  if (json) {
    std::cout << list.dump(2) << std::endl;
  } else if (names.empty()) {
    std::cout << RunsFolder() << ": no runs here; start one with: lockstep run CONFIG" << std::endl;
  } else {
    std::cout << table.Text("") << std::flush;
  }
  return kExitDone;
}

}  // namespace

void AddRuns(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand("runs", "List the runs under runs/ (or $LOCKSTEP_RUNS)");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "As JSON");
  command->callback([=] { *action = [json] { return Runs(*json); }; });
}

}  // namespace lockstep
