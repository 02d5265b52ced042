#pragma once

#include <torch/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/run_config.pb.h"

namespace lockstep {

struct NamedTensor {
  std::string name;  // as PyTorch's state_dict has it
  torch::Tensor tensor;
};

// A network: parameters, buffers, forward. Not thread-safe: the trainer's thread alone.
class Model {
 public:
  virtual ~Model() = default;
  // A batch of inputs ([b, …], float32 or int64) to outputs ([b, …]). InvalidArgument: the network refuses the input
  // (LibTorch's own first line).
  virtual absl::StatusOr<torch::Tensor> Forward(const torch::Tensor& input) = 0;
  virtual void SetTraining(bool training) = 0;
  // In order of registration, each tensor once (a tied one under its first name).
  virtual const std::vector<NamedTensor>& parameters() const = 0;
  virtual const std::vector<NamedTensor>& buffers() const = 0;
  // Names that share a parameter of another name: {alias, name}.
  virtual const std::vector<std::pair<std::string, std::string>>& tied() const = 0;
};

// `device`: "cpu" or "cuda:0". Initial weights are those that PyTorch gives after manual_seed(seed).
absl::StatusOr<std::unique_ptr<Model>> CreateModel(const lockstep::RunConfig& config, const std::string& device);

}  // namespace lockstep
