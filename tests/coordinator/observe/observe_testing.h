#pragma once

#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "coordinator/observe/summary.h"
#include "coordinator/observe/text.h"
#include "lockstep/control.pb.h"

namespace lockstep {

inline Decision Decided(const std::string& kind, const std::string& rule, const std::string& reason, int64_t step) {
  Decision decision;
  decision.set_kind(kind);
  decision.set_rule(rule);
  decision.set_reason(reason);
  decision.set_step(step);
  return decision;
}

inline EvaluationResult Evaluated(int64_t step, double accuracy, double loss) {
  EvaluationResult result;
  result.set_step(step);
  result.set_split("val");
  result.set_samples(1000);
  (*result.mutable_metrics())["loss"] = loss;
  (*result.mutable_metrics())["accuracy"] = accuracy;
  return result;
}

// A run of two workers in the middle of its third epoch.
inline StatusReply Training() {
  StatusReply status;
  status.set_name("digits-cnn");
  status.set_folder("runs/digits-cnn");
  status.set_phase("training");
  status.set_step(1234);
  status.set_final_step(5000);
  status.set_epoch(2);
  status.set_epochs(10);
  status.set_epoch_step(234);
  status.set_steps_per_epoch(500);
  status.set_loss(0.12345);
  status.set_samples_per_s(12345.6);
  status.set_eta_epoch_s(83);
  status.set_exposed_fraction(0.042);
  status.set_step_s(0.01037);
  status.set_elapsed_s(123.4);
  status.set_incarnation(1);
  status.set_best_step(1000);
  status.set_best_value(0.9791);
  status.set_metric("accuracy");
  status.set_last_checkpoint(1000);
  *status.mutable_last_evaluation() = Evaluated(1000, 0.9791, 0.071);
  for (int rank = 0; rank < 2; ++rank) {
    WorkerStatus& worker = *status.add_workers();
    worker.set_rank(rank);
    worker.set_host(rank == 0 ? "node-a" : "node-b.example");
    worker.set_pid(4711 + rank);
    worker.set_step(1234 - rank);
    worker.set_joined(true);
    worker.set_silent_s(0.1 + 2 * rank);
  }
  return status;
}

inline int WidestLine(const std::string& text) {
  int widest = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) widest = std::max(widest, WidthOf(line));
  return widest;
}

}  // namespace lockstep
