#include "worker/train/gradient_order.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <exception>
#include <memory>

#include "absl/status/status.h"
#include "common/base/status.h"
#include "worker/model/torch_status.h"

namespace lockstep {
namespace {

// Notes the parameters whose gradients have come; a parameter's first counts.
class OrderNotes {
 public:
  explicit OrderNotes(const std::vector<NamedTensor>& parameters) : parameters_(parameters) {
    for (size_t i = 0; i < parameters_.size(); ++i) {
      accumulators_.push_back(torch::autograd::impl::grad_accumulator(parameters_[i].tensor));
      hooks_.push_back(accumulators_[i]->add_post_hook(std::make_unique<Hook>(this, static_cast<int>(i))));
    }
  }
  ~OrderNotes() {
    for (size_t i = 0; i < hooks_.size(); ++i) {
      accumulators_[i]->del_post_hook(hooks_[i]);
      torch::Tensor parameter = parameters_[i].tensor;
      parameter.mutable_grad().reset();
    }
  }

  std::vector<int> Order() const {
    std::vector<int> order = came_;
    for (int i = static_cast<int>(parameters_.size()) - 1; i >= 0; --i) {
      if (std::find(came_.begin(), came_.end(), i) == came_.end()) order.push_back(i);
    }
    return order;
  }

 private:
  class Hook : public torch::autograd::FunctionPostHook {
   public:
    Hook(OrderNotes* notes, int parameter) : notes_(notes), parameter_(parameter) {}
    torch::autograd::variable_list operator()(const torch::autograd::variable_list& outputs,
                                              const torch::autograd::variable_list& inputs) override {
      std::vector<int>& came = notes_->came_;
      if (std::find(came.begin(), came.end(), parameter_) == came.end()) came.push_back(parameter_);
      return outputs;
    }

   private:
    OrderNotes* const notes_;
    const int parameter_;
  };

  const std::vector<NamedTensor>& parameters_;
  std::vector<std::shared_ptr<torch::autograd::Node>> accumulators_;
  std::vector<uintptr_t> hooks_;
  std::vector<int> came_;
};

// Puts back what a forward pass in training changes.
class KeptBuffers {
 public:
  explicit KeptBuffers(const std::vector<NamedTensor>& buffers) : buffers_(buffers) {
    for (const NamedTensor& buffer : buffers_) kept_.push_back(buffer.tensor.clone());
  }
  ~KeptBuffers() {
    torch::NoGradGuard no_grad;
    for (size_t i = 0; i < kept_.size(); ++i) {
      torch::Tensor buffer = buffers_[i].tensor;
      buffer.copy_(kept_[i]);
    }
  }

 private:
  const std::vector<NamedTensor>& buffers_;
  std::vector<torch::Tensor> kept_;
};

}  // namespace

absl::StatusOr<std::vector<int>> FindGradientOrder(Network* network, const torch::Tensor& input) {
  try {
    network->SetTraining(true);
    const KeptBuffers kept(network->buffers());
    const OrderNotes notes(network->parameters());
    ASSIGN_OR_RETURN(const torch::Tensor output, network->Forward(input));
    output.sum().backward();
    return notes.Order();
  } catch (const std::exception& error) {
    return TorchStatus(error, "a pass over zeros");
  }
}

}  // namespace lockstep
