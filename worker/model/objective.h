#pragma once

#include <torch/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

// The loss. Not thread-safe.
class Objective {
 public:
  virtual ~Objective() = default;
  // Mean over the batch's samples, a scalar that has a gradient.
  virtual absl::StatusOr<torch::Tensor> MeanLoss(const torch::Tensor& output, const torch::Tensor& target) = 0;
};
absl::StatusOr<std::unique_ptr<Objective>> CreateObjective(const Loss& loss, const std::string& device);

// Metrics as sums, so that shares of a validation set add up over batches and ranks exactly as one pass would.
// Values are functions of the sums alone: {"loss": …, "accuracy": …}.
class MetricSums {
 public:
  explicit MetricSums(std::vector<Metric> metrics);
  // `mean_loss` over this batch.
  void Add(const torch::Tensor& output, const torch::Tensor& target, double mean_loss);
  std::vector<double>& sums() { return sums_; }  // to be added up over ranks
  std::map<std::string, double> Values() const;
  int64_t samples() const;

 private:
  std::vector<Metric> metrics_;
  std::vector<double> sums_;
};

}  // namespace lockstep
