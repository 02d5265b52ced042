#include "worker/model/eager_linear.h"

#include <torch/csrc/autograd/custom_function.h>

namespace lockstep {
namespace {

// Passes the output on as it is. Its gradient gives those of weight and bias; then it goes on to the node that has
// computed the output, which knows of the input alone. Where parameters' gradients are taken in is what the engine runs
// before all else; of the two, the bias's comes first, as PyTorch's own does.
class ParameterGradients : public torch::autograd::Function<ParameterGradients> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& output,
                               const torch::Tensor& input, const torch::Tensor& bias, const torch::Tensor& weight) {
    context->save_for_backward({input});
    return output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::Tensor& gradient = gradients[0];
    const torch::Tensor input = context->get_saved_variables()[0];
    return {gradient, torch::Tensor(), gradient.sum(0), gradient.t().mm(input)};
  }
};

}  // namespace

torch::Tensor EagerLinearImpl::forward(const torch::Tensor& input) {
  const torch::Tensor output = torch::linear(input, weight.detach(), bias.detach());
  return ParameterGradients::apply(output, input.detach(), bias, weight);
}

}  // namespace lockstep
