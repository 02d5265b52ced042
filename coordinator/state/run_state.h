#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/data/plan.h"
#include "lockstep/control.pb.h"
#include "lockstep/journal.pb.h"

namespace lockstep {

// The coordinator's state, and the only place where it changes: Apply(Update). Pure: no I/O, no threads, no clock.
// The service validates (Check…), journals an Update, applies it, then journals and applies every Decision that
// Decide() says follows from it, and only then answers. A replay of the journal goes through the same Apply.
class RunState {
 public:
  struct Worker {
    bool joined = false;
    std::string host;
    int64_t pid = 0;
    std::string left;  // why; empty: there
  };

  // InvalidArgument: an update that no correct journal holds here (wrong seq, before RunStarted …); state unchanged.
  absl::Status Apply(const Update& update);

  // What follows from the state now and has not been decided yet, in order. Deterministic. Empty: nothing to decide.
  // Kinds and rules: stop by target, patience, max_epochs, max_steps, max_time, signal, request, non_finite, failure;
  // checkpoint by best, epoch_end, every_steps, start, request. `reason` is a sentence with the figures in it:
  // "accuracy 0.9791 at step 330 was not bettered in the 3 evaluations after it (0.9770, 0.9785, 0.9791)".
  std::vector<Decision> Decide() const;

  // Validation of what comes over the wire; OK or the status that the caller is answered with (see control.proto).
  absl::Status CheckJoin(const JoinRequest& request) const;
  absl::Status CheckSender(int rank, int incarnation) const;

  // How far grants may reach when a worker that holds `through` asks for more: at most the plan's end. The service
  // journals Granted when this is beyond granted_through().
  int64_t NextGrantThrough(int64_t through) const;
  // The grant of steps (after, granted_through], with their events.
  Grant MakeGrant(int64_t after) const;

  // After an evaluation at `step` was applied and decided: what every rank is told. NotFound: not evaluated yet.
  absl::StatusOr<Verdict> VerdictAt(int64_t step) const;
  // Directives decided in this incarnation, in order of number.
  const std::vector<Directive>& directives() const { return directives_; }

  // What belongs into state.json of the checkpoint at `cursor`: nothing that came after its step.
  CheckpointState StateAt(const Cursor& cursor) const;
  bool IsCheckpointDue(int64_t step) const;  // decided, and not committed yet

  bool started() const { return started_; }
  int incarnation() const { return incarnation_; }
  int world() const { return world_; }
  const RunConfig& config() const { return config_; }
  const std::string& config_digest() const { return config_digest_; }
  const std::string& build() const { return build_; }
  int64_t granted_through() const { return granted_through_; }
  int64_t final_step() const { return final_step_; }
  const MinibatchPlan& plan() const { return *plan_; }
  const std::map<int, Worker>& workers() const { return workers_; }
  const std::vector<EvaluationResult>& evaluations() const { return evaluations_; }
  int64_t best_step() const { return best_step_; }
  double best_value() const { return best_value_; }
  int64_t last_checkpoint() const { return last_checkpoint_; }  // step; -1: none
  const std::optional<CheckpointState>& resumed_from() const { return resumed_from_; }
  const std::optional<Decision>& stop() const { return stop_; }
  const std::optional<RunEnded>& ended() const { return ended_; }
  int64_t last_seq() const { return last_seq_; }

 private:
  // The author of run_state.cc lays these out anew as needed.
  bool started_ = false;
  int incarnation_ = 0, world_ = 0;
  RunConfig config_;
  std::string config_digest_, build_;
  std::optional<MinibatchPlan> plan_;
  int64_t granted_through_ = 0, final_step_ = 0, best_step_ = -1, last_checkpoint_ = -1, last_seq_ = 0;
  double best_value_ = 0;
  std::map<int, Worker> workers_;
  std::vector<EvaluationResult> evaluations_;
  std::vector<Directive> directives_;
  std::optional<CheckpointState> resumed_from_;
  std::optional<Decision> stop_;
  std::optional<RunEnded> ended_;
};

}  // namespace lockstep
