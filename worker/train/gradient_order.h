#pragma once

#include <torch/types.h>

#include <vector>

#include "absl/status/statusor.h"
#include "worker/model/model.h"

namespace lockstep {

// In which order backward makes gradients ready: the parameters' numbers in order of registration, found by one forward
// and backward pass over `input`, whose values do not matter (the order follows from the graph). Those without a
// gradient come last. It takes as long as the pass of a step, and more if it is the model's first.
//
// Leaves parameters, gradients and buffers as they were, the network in training; random numbers are drawn, which no
// step depends on, since each has its own seed. Before training, while nothing else uses the network. Any thread.
// Errors are the model's own on such an input.
absl::StatusOr<std::vector<int>> FindGradientOrder(Network* network, const torch::Tensor& input);

}  // namespace lockstep
