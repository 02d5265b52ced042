#include "worker/train/flat_parameters.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace lockstep {

namespace {

// By segment.
std::vector<torch::Tensor> Tensors(const ParameterLayout& layout, const Network& network) {
  std::vector<torch::Tensor> tensors;
  for (const ParameterSegment& segment : layout.segments()) {
    tensors.push_back(network.parameters()[segment.number].tensor);
  }
  return tensors;
}

}  // namespace

absl::StatusOr<ParameterLayout> FlatParameters::LayoutOf(const Network& network, const Optimizer& optimizer,
                                                         const std::vector<int>& order) {
  std::vector<ParameterLayout::Parameter> described;
  for (const NamedTensor& parameter : network.parameters()) {
    if (parameter.tensor.scalar_type() != torch::kFloat32) {
      return absl::InvalidArgumentError(
          absl::StrCat("parameter '", parameter.name, "' is ", c10::toString(parameter.tensor.scalar_type()),
                       ", but only float32 can be trained; convert the model with .float()"));
    }
    described.push_back({parameter.name, parameter.tensor.sizes().vec()});
  }
  RETURN_IF_ERROR(CheckGroups(described, optimizer));
  if (!order.empty() && !IsOrder(order, described.size())) {
    return absl::DataLossError(absl::StrCat("the run's order of ", order.size(),
                                            " gradients does not go with the model's ", described.size(),
                                            " parameters"));
  }
  return ParameterLayout(described, optimizer, order);
}

FlatParameters::FlatParameters(const ParameterLayout& layout, const Network& network, float* memory, bool write)
    : layout_(layout), parameters_(Tensors(layout, network)) {
  torch::NoGradGuard no_grad;
  if (memory == nullptr) {
    own_ = std::make_unique<FlatMemory>(layout_.elements());
    memory = own_->values().data();
  }
  host_ = torch::from_blob(memory, {layout_.elements()}, torch::kFloat32);
  const auto device = parameters_.empty() ? torch::Device(torch::kCPU) : parameters_[0].device();
  pinned_ = std::make_unique<PinnedMemory>(device, memory, layout_.elements() * sizeof(float));
  device_ = device.is_cpu() ? host_ : torch::zeros({layout_.elements()}, host_.options().device(device));
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const ParameterSegment& segment = layout_.segments()[i];
    torch::Tensor view = device_.narrow(0, segment.first, segment.count).view(segment.shape);
    if (write || !device.is_cpu()) view.copy_(parameters_[i]);
    torch::Tensor parameter = parameters_[i];
    parameter.set_data(view);
  }
  if (write) Fetch();
}

void FlatParameters::Publish() {
  torch::NoGradGuard no_grad;
  if (device_.data_ptr() != host_.data_ptr()) device_.copy_(host_);
}

void FlatParameters::Fetch() {
  torch::NoGradGuard no_grad;
  if (device_.data_ptr() != host_.data_ptr()) host_.copy_(device_);
}

}  // namespace lockstep
