#include "worker/train/flat_parameters.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace lockstep {

absl::StatusOr<std::unique_ptr<FlatParameters>> FlatParameters::Create(const Network& network,
                                                                       const Optimizer& optimizer) {
  std::vector<ParameterLayout::Parameter> described;
  std::vector<torch::Tensor> tensors;
  for (const NamedTensor& parameter : network.parameters()) {
    if (parameter.tensor.scalar_type() != torch::kFloat32) {
      return absl::InvalidArgumentError(
          absl::StrCat("parameter '", parameter.name, "' is ", c10::toString(parameter.tensor.scalar_type()),
                       ", but only float32 can be trained; convert the model with .float()"));
    }
    described.push_back({parameter.name, parameter.tensor.sizes().vec()});
    tensors.push_back(parameter.tensor);
  }
  RETURN_IF_ERROR(CheckGroups(described, optimizer));
  std::reverse(tensors.begin(), tensors.end());  // segments are in reverse order of registration
  return std::unique_ptr<FlatParameters>(new FlatParameters(ParameterLayout(described, optimizer), std::move(tensors)));
}

FlatParameters::FlatParameters(const ParameterLayout& layout, std::vector<torch::Tensor> parameters)
    : layout_(layout), parameters_(std::move(parameters)) {
  torch::NoGradGuard no_grad;
  const auto device = parameters_.empty() ? torch::Device(torch::kCPU) : parameters_[0].device();
  device_ = torch::zeros({layout_.elements()}, torch::dtype(torch::kFloat32).device(device));
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const ParameterSegment& segment = layout_.segments()[i];
    torch::Tensor view = device_.narrow(0, segment.first, segment.count).view(segment.shape);
    view.copy_(parameters_[i]);
    torch::Tensor parameter = parameters_[i];
    parameter.set_data(view);
  }
  host_ = device_.cpu();
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
