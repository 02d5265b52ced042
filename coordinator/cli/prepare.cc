#include "coordinator/cli/prepare.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/cores.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "common/checkpoint/checkpoint.h"
#include "common/data/dataset.h"
#include "common/data/plan.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/cli/worker_program.h"
#include "coordinator/observe/text.h"
#include "coordinator/service/launch.h"

namespace lockstep {
namespace {

absl::StatusOr<std::vector<Override>> ParseOverrides(const std::vector<std::string>& texts) {
  std::vector<Override> overrides;
  for (const std::string& text : texts) {
    ASSIGN_OR_RETURN(Override one, ParseOverride(text));
    overrides.push_back(std::move(one));
  }
  return overrides;
}

// Of this machine.
int ThreadsThatFit(int workers) { return std::max(1, PhysicalCores() / workers); }

absl::StatusOr<PreparedRun> Resolve(RunConfig config, const LaunchSize& size) {
  PreparedRun run;
  run.config = std::move(config);
  if (size.workers.has_value()) run.config.set_workers(*size.workers);
  if (run.config.workers() == 0) run.config.set_workers(PhysicalCores());
  if (run.config.threads() == 0) {
    run.config.set_threads(size.threads > 0 ? size.threads : ThreadsThatFit(run.config.workers()));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Dataset> train, OpenDataset(run.config.data(), Split::kTrain));
  ASSIGN_OR_RETURN(const std::unique_ptr<Dataset> validation, OpenDataset(run.config.data(), Split::kValidation));
  DataFacts facts;
  facts.train_samples = run.train_samples = train->size();
  facts.inputs = train->input().elements();
  facts.outputs = std::max(CountOutputs(*train), CountOutputs(*validation));
  run.val_samples = validation->size();
  run.data_digest = DataDigest(*train, *validation);
  run.sample_bytes = train->input().bytes() + train->target().bytes();
  RETURN_IF_ERROR(ResolveConfig(facts, run.config.workers(), &run.config));
  run.digest = ConfigDigest(run.config);
  return run;
}

}  // namespace

absl::StatusOr<PreparedRun> PrepareRun(const std::string& config_path, const std::vector<std::string>& overrides,
                                       const LaunchSize& size) {
  ASSIGN_OR_RETURN(const std::vector<Override> parsed, ParseOverrides(overrides));
  ASSIGN_OR_RETURN(RunConfig config, LoadConfig(config_path, parsed));
  absl::StatusOr<PreparedRun> run = Resolve(std::move(config), size);
  if (!run.ok()) return AtItsPlace(run.status(), config_path, parsed);
  return run;
}

absl::StatusOr<PreparedRun> PrepareResume(const std::string& run_folder, const std::vector<std::string>& overrides,
                                          const LaunchSize& size) {
  if (IsLive(run_folder)) {
    return absl::FailedPreconditionError(
        absl::StrCat(run_folder, ": is live; stop it first with: lockstep stop ", ShellWord(run_folder)));
  }
  ASSIGN_OR_RETURN(const std::vector<Override> parsed, ParseOverrides(overrides));
  ASSIGN_OR_RETURN(RunConfig config, ConfigOfRun(run_folder));
  const std::string digest = ConfigDigest(config);
  if (size.workers.value_or(0) > config.workers()) {
    const int fit = size.threads > 0 ? size.threads : ThreadsThatFit(*size.workers);
    config.set_threads(std::min(config.threads(), fit));
  }
  RETURN_IF_ERROR(OverrideForResume(parsed, &config));
  ASSIGN_OR_RETURN(PreparedRun run, Resolve(std::move(config), size));
  if (run.digest != digest) {
    return absl::FailedPreconditionError(absl::StrCat(run_folder, ": the data in ", run.config.data().path(),
                                                      " are not those that this run was trained on"));
  }
  const std::string last = JoinPath(run_folder, "checkpoints/latest");
  const absl::StatusOr<CheckpointState> state = ReadCheckpointState(FileSystem::Real(), last);
  if (state.ok()) {
    RETURN_IF_ERROR(CheckSameData(*state, run_folder, run.config.data().path(), run.train_samples, run.data_digest));
  }
  return run;
}

absl::StatusOr<ConfigSize> SizeOfConfig(const std::string& config_path, const std::string& run_folder,
                                        const std::vector<std::string>& overrides) {
  ASSIGN_OR_RETURN(const std::vector<Override> parsed, ParseOverrides(overrides));
  ASSIGN_OR_RETURN(RunConfig config, run_folder.empty() ? LoadConfig(config_path, parsed) : ConfigOfRun(run_folder));
  if (!run_folder.empty()) RETURN_IF_ERROR(OverrideForResume(parsed, &config));
  return ConfigSize{config.workers(), config.threads()};
}

absl::StatusOr<std::string> DescribePlan(const PreparedRun& run) {
  const RunConfig& config = run.config;
  const MinibatchPlan plan(run.train_samples, config.data().global_batch_size(), config.run().seed(),
                           config.data().shuffle());
  int64_t steps = plan.steps_per_epoch() * config.convergence().max_epochs();
  if (config.convergence().max_steps() > 0) steps = std::min(steps, config.convergence().max_steps());
  const int64_t batch = std::min(config.data().global_batch_size(), run.train_samples);
  const int64_t largest = (batch + config.workers() - 1) / config.workers();
  ASSIGN_OR_RETURN(const std::string described, AskWorker({"--describe"}, ConfigToYaml(config)));
  const auto model = nlohmann::json::parse(described, nullptr, false);
  if (!model.is_object() || !model.contains("parameters") || !model.contains("grad_bytes")) {
    return absl::InternalError(absl::StrCat("lockstep-worker --describe: not understood: ", described));
  }
  std::string text = ConfigToYaml(config);
  const auto line = [&text](const std::string& label, const std::string& value) {
    absl::StrAppend(&text, "#   ", label, std::string(std::max<int>(1, 18 - static_cast<int>(label.size())), ' '),
                    value, "\n");
  };
  absl::StrAppend(&text, "\n# The plan. Nothing was started.\n");
  line("samples", absl::StrCat(run.train_samples, " to train, ", run.val_samples, " to validate"));
  line("steps", absl::StrCat(plan.steps_per_epoch(), " an epoch, ", steps, " in all"));
  line("batch", absl::StrCat(batch, " samples a step over ", CountText(int64_t{config.workers()}, "worker"), ", ",
                             batch / config.workers() == largest ? "" : absl::StrCat(batch / config.workers(), " or "),
                             largest, " each"));
  line("bytes of a batch", BytesText(batch * run.sample_bytes));
  line("parameters", CountText(model["parameters"].get<double>()));
  line("gradient bytes", BytesText(model["grad_bytes"].get<int64_t>()));
  return text;
}

absl::Status CheckDevice(const RunConfig& config) {
  if (config.device() != DEVICE_CUDA) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string answer, AskWorker({"--probe"}, ""));
  const auto probe = nlohmann::json::parse(answer, nullptr, false);
  if (probe.is_object() && probe.value("cuda", false)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "device: cuda was asked for, but LibTorch sees no CUDA device here; use --set device=cpu, or auto");
}

}  // namespace lockstep
