#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/checkpoint/safetensors.h"
#include "common/data/dataset.h"
#include "common/data/plan.h"
#include "lockstep/control.pb.h"
#include "worker/comm/comm_thread.h"
#include "worker/comm/host_collectives.h"
#include "worker/coordinator_client/client.h"
#include "worker/model/model.h"
#include "worker/model/objective.h"
#include "worker/train/bucket_times.h"
#include "worker/train/checkpoint_uploader.h"
#include "worker/train/evaluator.h"
#include "worker/train/faults.h"
#include "worker/train/flat_parameters.h"
#include "worker/train/gradient_exchange.h"
#include "worker/train/prefetcher.h"
#include "worker/train/run_clock.h"
#include "worker/train/snapshot.h"
#include "worker/train/step_runner.h"

namespace lockstep {

struct TrainerOptions {
  RunConfig config;  // resolved
  int rank = 0, world = 1;
  int32_t incarnation = 1;
  std::string device = "cpu";
  std::optional<CheckpointState> resume;  // start from the coordinator's checkpoint; else from the network's weights
  // As an earlier launch found it (empty: it found none), so that this one adds up in the same order; unset: find it.
  std::optional<std::vector<int>> gradient_order;
  Collectives* collectives = nullptr;  // null: world is 1
  HostWindow* window = nullptr;        // the host's ranks share parameters in it, see SizeWindow; null: they do not
  HostCollectives* host = nullptr;     // with a window: over it and `collectives`
  int hosts = 1;
  CoordinatorLink* link = nullptr;
  std::unique_ptr<Network> network;
  std::unique_ptr<Objective> objective;
  std::unique_ptr<Dataset> train, validation;
  std::function<void(const std::string&)> log = [](const std::string&) {};  // a line for people; any thread
};

// How training ended on this rank.
struct TrainingEnd {
  absl::Status status;  // OK: a stop, obeyed, with its checkpoint committed
  int64_t step = 0;     // completed; non-finite: the one that failed
  std::string why;      // of the stop, or the status's message
  bool tell = false;    // on an error: this rank is the one that tells the coordinator
  bool non_finite = false;
};

// The training loop of one rank, as DESIGN.md sections 7 to 9 tell it. Steps go on as far as they are granted; between
// two steps, at the same one on every rank: directives, the end of an epoch, evaluation and its verdict, checkpoint,
// stop. Rank 0 speaks for all of them to the coordinator.
//
// After an error the job is broken: the process leaves without destroying this (a collective may be under way).
class Trainer {
 public:
  // InvalidArgument, ResourceExhausted: network, data and config do not go together, or do not fit.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(TrainerOptions options);
  // What a window has to hold for such a network: WindowOptions' shared_bytes and rank_bytes. Errors as of Create.
  static absl::Status SizeWindow(const RunConfig& config, const Network& network, WindowOptions* window);
  ~Trainer();

  TrainingEnd Run();

  // Any thread: steps completed.
  int64_t step() const { return step_.load(std::memory_order_relaxed); }
  const Cursor& cursor() const { return cursor_; }
  FlatParameters& parameters() { return *parameters_; }
  // The parameters' numbers in the order of the layout; empty: the reverse of registration.
  const std::vector<int>& gradient_order() const { return gradient_order_; }

 private:
  // Whether the ranks meet at step `step`: always, unless each has parameters of its own. The same on all ranks.
  bool Synchronises(int64_t step) const;
  // By AdaComm's rule, at an epoch's end.
  void AdaptPeriod(double epoch_loss);

  struct Boundary {  // what is to be done between two steps
    bool stop = false, checkpoint = false, best = false;
    std::string why;
  };

  explicit Trainer(TrainerOptions options);
  absl::Status Prepare();
  absl::Status PrepareReplica();
  absl::Status AgreeOnOrder();
  absl::Status Train();
  absl::Status Start();
  absl::Status TakeStep(Boundary* boundary);
  absl::Status AllowNextStep();
  absl::Status WaitForGrant(int64_t step);
  absl::Status CheckFinite(const StepOutcome& outcome);
  absl::Status CheckReplicasIfDue();
  absl::Status MeasureClocks();
  void Report(StepRecord* record);

  void ObeyDirectives(int64_t through, Boundary* boundary);
  void StartTuning();
  void SetBuckets(const lockstep::SetBuckets& buckets);
  void Advance(const StepTail& tail);
  void EndEpoch();
  absl::Status EvaluateIfDue(Boundary* boundary);
  absl::StatusOr<Verdict> AwaitVerdict(int64_t step);
  absl::Status CheckpointIfDue(const Boundary& boundary);
  absl::Status Checkpoint(bool best);
  absl::Status AnnounceCheckpoint();
  absl::Status SnapshotAndSend(bool best, int64_t start_ns);
  absl::Status FinishUploads();

  absl::Status Restore();
  std::vector<RankState> StatesToGoOnWith();
  absl::Status GiveRankStatesBack();
  absl::Duration control_timeout() const { return absl::Seconds(options_.config.control().timeout()); }
  absl::Duration beat() const;
  bool leads() const { return options_.rank == 0; }
  // Whether gradients travel, in buckets: not alone, and not among ranks that all share one window.
  bool HasBuckets() const { return comm_ != nullptr && (options_.window == nullptr || options_.hosts > 1); }

  TrainerOptions options_;
  const MinibatchPlan plan_;
  const Decoder decoder_;
  const Faults faults_;
  RunClock clock_;
  std::optional<ClockRecord> measured_clock_;  // since the last report
  std::unique_ptr<CommThread> comm_;           // null: alone
  std::vector<int> gradient_order_;
  double bucket_mb_;
  BucketTimes bucket_times_;
  std::unique_ptr<FlatParameters> parameters_;
  std::unique_ptr<SpanOptimizer> optimizer_;
  std::unique_ptr<Compressor> compressor_;  // null: gradients travel as they are
  std::unique_ptr<GradientExchange> exchange_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<Evaluator> evaluator_;
  std::unique_ptr<Prefetcher> batches_;
  std::unique_ptr<Snapshot> snapshot_;
  std::unique_ptr<CheckpointUploader> uploader_;
  SafetensorsFile stored_states_;  // rank 0's, on a resume: every rank's own …
  std::vector<int> stored_ranks_;  // … and of how many ranks each of them is

  std::atomic<int64_t> step_{0};
  Cursor cursor_;
  int64_t epoch_start_ns_ = 0;
  double epoch_step_s_ = 0, epoch_exposed_s_ = 0;  // of this epoch's steps in this launch
  int64_t obeyed_ = 0;                             // directives up to this number
  int64_t synchronised_ = 0;                       // the last step that did
  int64_t replicas_checked_ = 0;                   // the last step at which it was asked whether that is due
  bool checkpoint_overdue_ = false;                // fell due where the ranks did not meet
  int64_t checkpointed_ = -1;                      // step of the last checkpoint taken
  TrainingEnd end_;
};

}  // namespace lockstep
