#pragma once

#include <torch/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

// The loss. Not thread-safe. Targets are int64 [b] (class labels) or float32 [b, …].
class Objective {
 public:
  virtual ~Objective() = default;
  // Mean over the batch's samples, a scalar that has a gradient. InvalidArgument: outputs and targets do not go
  // together (a label that the model has no output for, other shapes, …).
  virtual absl::StatusOr<torch::Tensor> MeanLoss(const torch::Tensor& output, const torch::Tensor& target) = 0;
};
absl::StatusOr<std::unique_ptr<Objective>> CreateObjective(const Loss& loss, const std::string& device);

// Metrics as sums, so that shares of a validation set add up over batches and ranks exactly as one pass would: counts
// of samples are whole numbers in doubles. Values are functions of the sums alone: {"loss": …, "accuracy": …}.
//
// Accuracy: with labels, how often the largest output is the label's (of equal ones, the first); with one output, or
// with floating-point targets of the output's shape, how often output > 0 where target > 0.5 (mean over a sample's
// outputs). top5: the label's output is among the five largest. mae: mean absolute difference.
class MetricSums {
 public:
  explicit MetricSums(std::vector<Metric> metrics);
  // `mean_loss` over this batch. InvalidArgument: a metric that these outputs and targets have not.
  absl::Status Add(const torch::Tensor& output, const torch::Tensor& target, double mean_loss);
  std::vector<double>& sums() { return sums_; }  // to be added up over ranks
  std::map<std::string, double> Values() const;
  int64_t samples() const;

 private:
  std::vector<Metric> metrics_;
  std::vector<double> sums_;  // samples, loss, then one for each of metrics_
};

}  // namespace lockstep
