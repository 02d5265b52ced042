#include "worker/train/buffer_average.h"

#include "absl/types/span.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

torch::Tensor Room(const std::vector<torch::Tensor>& tensors, torch::ScalarType type) {
  int64_t count = 0;
  for (const torch::Tensor& tensor : tensors) count += tensor.numel();
  return torch::zeros({count}, type);
}

void Pack(const std::vector<torch::Tensor>& tensors, torch::Tensor* packed) {
  int64_t first = 0;
  for (const torch::Tensor& tensor : tensors) {
    packed->narrow(0, first, tensor.numel()).copy_(tensor.reshape({-1}));
    first += tensor.numel();
  }
}

void Unpack(const torch::Tensor& packed, std::vector<torch::Tensor>* tensors) {
  int64_t first = 0;
  for (torch::Tensor& tensor : *tensors) {
    tensor.copy_(packed.narrow(0, first, tensor.numel()).view(tensor.sizes()));
    first += tensor.numel();
  }
}

absl::Span<std::byte> Bytes(torch::Tensor* tensor) {
  return absl::MakeSpan(static_cast<std::byte*>(tensor->data_ptr()), tensor->nbytes());
}

}  // namespace

BufferAverage::BufferAverage(const Network& network, CommThread* comm) : comm_(comm) {
  if (comm_ == nullptr) return;
  for (const NamedTensor& buffer : network.buffers()) {
    if (buffer.tensor.is_floating_point()) floats_.push_back(buffer.tensor);
    if (c10::isIntegralType(buffer.tensor.scalar_type(), /*includeBool=*/false)) integers_.push_back(buffer.tensor);
  }
  packed_floats_ = Room(floats_, torch::kFloat64);
  packed_integers_ = Room(integers_, torch::kInt64);
}

void BufferAverage::Start(double share, bool some_idle) {
  if (comm_ == nullptr) return;
  torch::NoGradGuard no_grad;
  some_idle_ = some_idle;
  if (packed_floats_.numel() > 0) {
    Pack(floats_, &packed_floats_);
    packed_floats_.mul_(share);
    floats_number_ = comm_->StartAllReduce("buffers", Bytes(&packed_floats_), DType::kF64, ReduceOp::kSum);
  }
  if (some_idle_ && packed_integers_.numel() > 0) {
    Pack(integers_, &packed_integers_);
    integers_number_ = comm_->StartAllReduce("buffers.integer", Bytes(&packed_integers_), DType::kI64, ReduceOp::kMax);
  }
}

absl::Status BufferAverage::Finish() {
  if (comm_ == nullptr) return absl::OkStatus();
  torch::NoGradGuard no_grad;
  if (packed_floats_.numel() > 0) {
    RETURN_IF_ERROR(comm_->Wait(floats_number_));
    Unpack(packed_floats_, &floats_);
  }
  if (some_idle_ && packed_integers_.numel() > 0) {
    RETURN_IF_ERROR(comm_->Wait(integers_number_));
    Unpack(packed_integers_, &integers_);
  }
  return absl::OkStatus();
}

}  // namespace lockstep
