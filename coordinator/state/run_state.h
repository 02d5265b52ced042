#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/data/plan.h"
#include "coordinator/state/bucket_tuner.h"
#include "coordinator/state/schedule.h"
#include "lockstep/control.pb.h"
#include "lockstep/journal.pb.h"

namespace lockstep {

// The coordinator's state, and the only place where it changes: Apply(Update). Pure: no I/O, no threads, no clock.
// The service validates (Check…), journals a fact, applies it, then journals and applies the first of what Decide()
// says follows from it until nothing does, and only then answers. A replay of the journal goes through the same Apply.
class RunState {
 public:
  struct Worker {
    bool joined = false;
    std::string host;
    int64_t pid = 0;
    std::string left;  // why; empty: there
  };

  // Whether `update` may come next. InvalidArgument: no correct journal holds it here (wrong seq, before RunStarted …).
  // FailedPrecondition or AlreadyExists: a fact that a worker told and that does not hold (not due, told before).
  absl::Status Check(const Update& update) const;
  // As Check says; after an error the state is unchanged.
  absl::Status Apply(const Update& update);

  // What follows from the state now and has not been decided yet, in order. Deterministic. Empty: nothing to decide.
  // Kinds and rules:
  //   stop        non_finite, failure, worker_lost, target, patience, max_epochs, max_steps, max_time, signal, request
  //   checkpoint  best, request, start, epoch_end, every_steps, stop
  //   buckets     bucket_tuning
  //   warning     the problem's own rule
  // The first stop counts, but a failure (non_finite, failure, worker_lost) takes the place of any other. `reason` is a
  // sentence with the figures in it:
  // "accuracy 0.9791 at step 330 was not bettered in the 3 evaluations after it (0.9770, 0.9785, 0.9791)".
  std::vector<Decision> Decide() const;

  // Validation of what comes over the wire; OK or the status that the caller is answered with (see control.proto).
  absl::Status CheckJoin(const JoinRequest& request) const;
  absl::Status CheckSender(int rank, int incarnation) const;
  absl::Status CheckEvaluation(const EvaluationResult& result) const;
  absl::Status CheckCommunication(const CommunicationChosen& chosen) const;
  absl::Status CheckBuckets(const BucketsMeasured& measured) const;
  // Whether schedule, stop or a request explains a checkpoint at `step`, and it has not been announced before.
  absl::Status CheckCheckpointDue(int64_t step) const;

  // How far grants may reach when a worker that holds `through` asks for more: at most the plan's end. The service
  // journals Granted when this is beyond granted_through().
  int64_t NextGrantThrough(int64_t through) const;
  // The grant of steps (after, granted_through], with their events; it may end earlier when they are very many.
  Grant MakeGrant(int64_t after) const;

  // After an evaluation at `step` was applied and decided: what every rank is told. NotFound: not evaluated yet.
  absl::StatusOr<Verdict> VerdictAt(int64_t step) const;
  // Directives decided in this incarnation, in order of number.
  const std::vector<Directive>& directives() const { return directives_; }

  // What belongs into state.json of the checkpoint at `cursor`: nothing that came after its step.
  CheckpointState StateAt(const Cursor& cursor) const;
  bool IsCheckpointDue(int64_t step) const { return due_.count(step) > 0; }  // decided, and not committed yet
  bool EvaluationDue(int64_t step) const { return schedule_->EvaluationDue(step); }

  // 0 done, 1 failed, 3 stopped by a signal while there is a checkpoint: of a run that ends now.
  int ExitCode() const;
  // Seconds that the run has been up at `time` (since 1970), over all launches.
  double ElapsedAt(double time) const;

  bool started() const { return started_; }
  int incarnation() const { return incarnation_; }
  int world() const { return world_; }
  const RunConfig& config() const { return config_; }
  const std::string& config_digest() const { return config_digest_; }
  const std::string& data_digest() const { return data_digest_; }
  const std::string& build() const { return build_; }
  int64_t start_step() const { return start_step_; }  // that this incarnation goes on from
  int64_t granted_through() const { return granted_through_; }
  int64_t final_step() const { return schedule_ ? schedule_->final_step() : 0; }
  const MinibatchPlan& plan() const { return *plan_; }  // once started
  int64_t val_samples() const { return val_samples_; }
  const std::map<int, Worker>& workers() const { return workers_; }
  int present() const { return present_; }  // workers that joined and have not left …
  bool OnlyMissingArePresent() const;       // … all of which were named missing by the one that failed
  const std::vector<EvaluationResult>& evaluations() const { return evaluations_; }
  int64_t best_step() const { return best_step_; }  // -1: none
  double best_value() const { return best_value_; }
  int64_t last_checkpoint() const { return last_checkpoint_; }  // step; -1: none
  // A checkpoint was requested, and none was committed since.
  bool checkpoint_on_its_way() const { return request_pending_; }
  const std::optional<CheckpointState>& resumed_from() const { return resumed_from_; }
  // What an earlier incarnation chose in the same world; null: nothing, and this one is to choose.
  const CommunicationChosen* earlier_communication() const;
  const std::optional<Decision>& stop() const { return stop_; }
  bool failed() const { return stop_ && stop_->failure(); }
  const std::optional<RunEnded>& ended() const { return ended_; }
  int64_t last_seq() const { return last_seq_; }

 private:
  // Of checkpoints that were announced and never came, so many are remembered.
  static constexpr int kMaxDue = 1024;

  absl::Status CheckKind(const Update& update) const;
  absl::Status CheckFact(const Update& update) const;
  absl::Status CheckRunStarted(const RunStarted& started) const;
  absl::Status CheckWorkerJoined(const WorkerJoined& joined) const;
  absl::Status CheckWorkerLeft(const WorkerLeft& left) const;
  absl::Status CheckGranted(const Granted& granted) const;
  absl::Status CheckCheckpointCommitted(const CheckpointCommitted& committed) const;
  absl::Status CheckDecision(const Decision& decision) const;

  // What Check let through.
  void ApplyRunStarted(const RunStarted& started, double time);
  void RollBackTo(const RunStarted& started);
  double BucketMbAtStart() const;
  void ApplyFact(const Update& update);
  void ApplyWorkerJoined(const WorkerJoined& joined);
  void ApplyWorkerLeft(const WorkerLeft& left);
  void ApplyCommunicationChosen(const CommunicationChosen& chosen);
  void ApplyEvaluated(const EvaluationResult& result);
  void ApplyCheckpointDue(int64_t step);
  void ApplyCheckpointCommitted(const CheckpointCommitted& committed);
  void ApplyDecision(const Decision& decision);
  void ApplyStop(const Decision& decision);
  void ApplyBucketsDecision(const Decision& decision);
  void ApplyCheckpointDecision(const Decision& decision);
  void AddDue(int64_t step);
  // The rule that explains a checkpoint at `step`; empty: none.
  std::string CheckpointRule(int64_t step) const;

  // decide.cc
  std::optional<Decision> DecideStop() const;
  std::optional<Decision> DecideFailure() const;
  std::string WhereAre(const Failed& failed) const;
  std::optional<Decision> StopAtPlansEnd() const;
  Decision DecideBest() const;
  Decision DecideDue(int64_t step) const;
  int64_t NextDirective() const { return static_cast<int64_t>(directives_.size()) + 1; }

  // Of the whole run.
  bool started_ = false;
  int64_t last_seq_ = 0;
  double elapsed_before_ = 0;  // of earlier launches
  double started_time_ = 0, last_time_ = 0;
  std::optional<CommunicationChosen> communication_;  // the last one

  // Of this incarnation.
  int incarnation_ = 0, world_ = 0, present_ = 0;
  RunConfig config_;
  std::string config_digest_, data_digest_, build_;
  std::optional<MinibatchPlan> plan_;
  int64_t val_samples_ = 0;
  std::optional<RunSchedule> schedule_;
  int64_t start_step_ = 0, granted_through_ = 0, best_step_ = -1, last_checkpoint_ = -1;
  double best_value_ = 0;
  std::map<int, Worker> workers_;
  std::vector<EvaluationResult> evaluations_;
  std::vector<Directive> directives_;
  std::optional<CheckpointState> resumed_from_;
  std::optional<BucketTuner> tuner_;  // where that is asked for
  int64_t buckets_step_ = 0;          // the last that it was told of
  std::optional<Decision> stop_;
  std::optional<RunEnded> ended_;
  std::set<int64_t> due_;        // steps of checkpoints decided, not committed
  int unconsumed_requests_ = 0;  // checkpoint directives that no CheckpointDue has answered
  bool request_pending_ = false;

  // Facts that a decision follows from; taken away when it is made.
  std::optional<Problem> problem_;
  bool best_undecided_ = false;
  std::optional<CheckpointRequested> request_undecided_;
  std::optional<int64_t> due_undecided_;
  std::optional<Failed> failure_;
  std::optional<WorkerLeft> loss_;
  std::optional<TimeReached> time_reached_;
  std::optional<StopRequested> stop_requested_;
};

}  // namespace lockstep
