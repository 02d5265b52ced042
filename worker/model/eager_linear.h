#pragma once

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

namespace lockstep {

// torch::nn::Linear with a bias, bit for bit, with another order of the backward pass. PyTorch computes the gradients
// of weight and input in one node and hands both on together. Here the weight's and the bias's come first and are
// handed on at once: they are on their way to the other ranks while the input's, which takes as long as the weight's,
// is computed.
class EagerLinearImpl : public torch::nn::LinearImpl {
 public:
  using LinearImpl::LinearImpl;
  // `input`: [batch, in_features]. Returns [batch, out_features].
  torch::Tensor forward(const torch::Tensor& input);
};
TORCH_MODULE(EagerLinear);

}  // namespace lockstep
