#pragma once

#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/data/dataset.h"
#include "common/data/decode.h"
#include "lockstep/run_config.pb.h"
#include "worker/model/model.h"
#include "worker/model/offline.h"

namespace lockstep {

// A checkpoint's network beside a split of data, ready to be asked.
class OfflineRun {
 public:
  // Verifies the checkpoint's files before it takes weights from them.
  static absl::StatusOr<std::unique_ptr<OfflineRun>> Open(const OfflineOptions& options);

  // Outputs and targets of the samples from `first` on, on the CPU; without gradients.
  using BatchFn = std::function<absl::Status(int64_t first, const torch::Tensor& output, const torch::Tensor& target)>;
  absl::Status ForEachBatch(const BatchFn& fn);

  const RunConfig& config() const { return config_; }
  const std::string& checkpoint() const { return checkpoint_; }  // "step-00000330"
  const std::string& split() const { return split_; }            // "train" or "validation", as the run's record has it

 private:
  OfflineRun() = default;
  absl::Status OpenConfig(const OfflineOptions& options);
  absl::Status OpenNetwork(const std::string& folder);
  absl::Status OpenData(const std::string& split);

  RunConfig config_;
  std::string checkpoint_, split_, device_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<Dataset> dataset_;
  std::unique_ptr<Decoder> decoder_;
};

}  // namespace lockstep
