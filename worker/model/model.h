#pragma once

#include <torch/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/run_config.pb.h"
#include "worker/model/layer_watch.h"

namespace lockstep {

struct NamedTensor {
  std::string name;  // as PyTorch's state_dict has it
  torch::Tensor tensor;
};

// A network: parameters, buffers, forward. Not thread-safe: the trainer's thread alone. The tensors handed out are the
// network's own for its whole life: what is written into them, also by set_data, is what Forward uses.
class Network {
 public:
  virtual ~Network() = default;
  // A batch of inputs ([b, …], float32 or int64) to outputs ([b, …]). InvalidArgument: the network refuses the input
  // (LibTorch's own first line).
  virtual absl::StatusOr<torch::Tensor> Forward(const torch::Tensor& input) = 0;
  virtual void SetTraining(bool training) = 0;
  // Tells `watch`, until told otherwise (null), when the layers (of TorchScript: LibTorch's operators) of Forward, and
  // of the backward pass of what it gave, compute; `watch` lives until that is over. The results are the same to the bit. By default nothing is told.
  virtual void Watch(LayerWatch* watch) {}
  // What is trained: float32. In order of registration, each tensor once (a tied one under its first name).
  virtual const std::vector<NamedTensor>& parameters() const = 0;
  virtual const std::vector<NamedTensor>& buffers() const = 0;
  // Parameters that ask for no gradient: part of a checkpoint, the same on every rank, never changed.
  virtual const std::vector<NamedTensor>& frozen() const;
  // Names that share a tensor of another name: {alias, name}.
  virtual const std::vector<std::pair<std::string, std::string>>& tied() const = 0;
};

// `device`: "cpu" or "cuda:0". Initial weights are those that PyTorch gives after manual_seed(seed); a TorchScript
// model brings its own.
absl::StatusOr<std::unique_ptr<Network>> CreateModel(const lockstep::RunConfig& config, const std::string& device);

}  // namespace lockstep
