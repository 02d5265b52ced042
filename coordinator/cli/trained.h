#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "absl/status/statusor.h"

namespace lockstep {

// What `evaluate` and `predict` are asked to use.
struct TrainedArguments {
  std::string target;      // RUN or the folder of a checkpoint
  std::string checkpoint;  // of a RUN: latest, best or step-N; empty: best if there is one, else latest
  std::string data;        // empty: the run's own
  std::string split = "val";
};
void AddTrainedOptions(CLI::App* command, TrainedArguments* arguments);

// The checkpoint's folder, verified, and the config.yaml of its run.
struct Trained {
  std::string checkpoint, config;
};
absl::StatusOr<Trained> FindTrained(const TrainedArguments& arguments);

// Becomes `lockstep-worker MODE …`; returns only if that is impossible.
absl::Status UseTrained(const std::string& mode, const TrainedArguments& arguments,
                        const std::vector<std::string>& more_arguments);

}  // namespace lockstep
