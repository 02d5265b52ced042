#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lockstep/run_config.pb.h"
#include "lockstep/telemetry.pb.h"
#include "worker/comm/comm_thread.h"
#include "worker/model/model.h"
#include "worker/model/objective.h"
#include "worker/train/buffer_average.h"
#include "worker/train/faults.h"
#include "worker/train/flat_parameters.h"
#include "worker/train/gradient_buckets.h"
#include "worker/train/gradient_exchange.h"
#include "worker/train/prefetcher.h"
#include "worker/train/span_optimizer.h"
#include "worker/train/step_times.h"
#include "worker/train/step_trace.h"

namespace lockstep {

// What one step came to.
struct StepOutcome {
  StepTail tail;  // over all ranks
  StepRecord record;
  bool measured = true;    // else the record has the step's length alone
  std::string not_finite;  // what is not, on this rank; tail.non_finite_rank says whether anything is on any
};

// One optimizer step, measured: batch, forward, backward with its buckets, what is left of communication, the tail, the
// update. Trainer's thread alone.
class StepRunner {
 public:
  struct Options {
    RunConfig config;
    int rank = 0, world = 1;
    int64_t steps_per_epoch = 1;
    double bucket_mb = 25;
    RunClock* clock = nullptr;
    const Faults* faults = nullptr;
  };
  // All pointers, the options' too, outlive this. `comm` null: alone.
  StepRunner(const Options& options, Network* network, Objective* objective, FlatParameters* parameters,
             SpanOptimizer* optimizer, GradientExchange* exchange, CommThread* comm);

  // Step `step` (from 1), the prefetcher's next. `step_samples`: over all ranks. `synchronises`: as in
  // GradientExchange::BeginStep; without it the tail is empty. `held_directive` is asked when the tail leaves. If
  // something is not finite (tail.non_finite_rank ≥ 0), parameters have not changed; so too on an error.
  absl::StatusOr<StepOutcome> Run(int64_t step, int64_t step_samples, bool synchronises, Prefetcher* batches,
                                  const std::function<int64_t()>& held_directive);

  // From the next step on.
  void SetBuckets(double bucket_mb) { buckets_.Cut(bucket_mb); }

 private:
  // The parts in order; each ends with its moment.
  absl::Status GetBatch(Prefetcher* batches, const Batch** batch);
  absl::Status ForwardAndBackward(const Batch& batch, int64_t step_samples,
                                  const std::function<int64_t()>& held_directive);
  absl::Status Communicate();
  absl::Status Update();
  void Record(const Batch& batch);
  void RecordClosely(const Batch& batch);

  // A pass: samples [begin, end) of the batch.
  struct Part {
    int64_t number = 0, begin = 0, end = 0;
    double Share(int64_t samples) const { return static_cast<double>(end - begin) / static_cast<double>(samples); }
  };
  absl::Status Forward(const Batch& batch, const Part& part);
  absl::Status Backward(double weight);
  int64_t EndPass(int64_t start_ns, int64_t forward_end_ns);
  void StartBuffers(int64_t samples, int64_t step_samples);
  void HandOverTail(int64_t samples, uint64_t fingerprint, int64_t held_directive);
  // Factor that clips the reduced gradient's norm; nothing if that is not finite.
  absl::StatusOr<std::optional<double>> ClipScale();

  const Options options_;
  Network* const network_;
  Objective* const objective_;
  FlatParameters* const parameters_;
  SpanOptimizer* const optimizer_;
  GradientExchange* const exchange_;
  GradientBuckets buckets_;
  BufferAverage buffers_;

  // Of the step under way.
  int64_t step_ = 0;
  StepMoments moments_;
  WallClock wall_;
  StepOutcome outcome_;
  torch::Tensor loss_;
  double loss_sum_ = 0;  // over this rank's samples
  bool synchronises_ = true;
  bool sampled_ = false;  // the step is looked at closely
  StepTrace trace_;
  std::vector<Span> spans_;
  int64_t first_collective_ns_ = 0;            // of the last step that had one
  int64_t own_samples_ = 0, all_samples_ = 0;  // since the last step that synchronised
};

}  // namespace lockstep
