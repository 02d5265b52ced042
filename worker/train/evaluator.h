#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "common/data/dataset.h"
#include "common/data/decode.h"
#include "lockstep/run_config.pb.h"
#include "lockstep/telemetry.pb.h"
#include "worker/comm/comm_thread.h"
#include "worker/model/model.h"
#include "worker/model/objective.h"
#include "worker/train/prefetcher.h"

namespace lockstep {

// Measures the network on the validation set, each rank on its share; the sums are added up over the ranks, so that all
// get the same figures. Trainer's thread alone.
class Evaluator {
 public:
  // All pointers outlive this; `comm` null: alone.
  Evaluator(const RunConfig& config, const std::string& device, const Dataset* data, int rank, CommThread* comm);

  // Metrics, samples and seconds; step and epoch are the caller's. Leaves the network in evaluation mode. All ranks
  // call it together.
  absl::StatusOr<EvaluationResult> Evaluate(Network* network, Objective* objective, int world);

 private:
  absl::Status AddBatch(const std::vector<int64_t>& ids, Network* network, Objective* objective, MetricSums* sums);

  const RunConfig config_;
  const std::string device_;
  const Dataset* const data_;
  const Decoder decoder_;
  const int rank_;
  CommThread* const comm_;
  BatchBuffer buffer_;
};

}  // namespace lockstep
