#include "worker/model/operator_watch.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "common/base/clock.h"

namespace lockstep {
namespace {

double Elements(const c10::IValue& value) {
  return value.isTensor() && value.toTensor().defined() ? static_cast<double>(value.toTensor().numel()) : 0;
}

// Of a product of matrices [.., m, k] and [.., k, n].
double ProductFlops(const c10::IValue& left, const c10::IValue& right) {
  if (!left.isTensor() || !right.isTensor() || right.toTensor().dim() < 2) return 0;
  return 2 * Elements(left) * static_cast<double>(right.toTensor().size(-1));
}

// A convolution's, by its output and its weight.
double ConvolutionFlops(const c10::IValue& output, const c10::IValue& weight) {
  if (!weight.isTensor() || weight.toTensor().dim() == 0 || weight.toTensor().size(0) == 0) return 0;
  return 2 * Elements(output) * Elements(weight) / static_cast<double>(weight.toTensor().size(0));
}

// What is known from its inputs; `name` without "aten::".
double InputFlops(const std::string& name, c10::ArrayRef<const c10::IValue> inputs) {
  if (name == "mm" || name == "bmm") return inputs.size() >= 2 ? ProductFlops(inputs[0], inputs[1]) : 0;
  if (name == "addmm" || name == "baddbmm") return inputs.size() >= 3 ? ProductFlops(inputs[1], inputs[2]) : 0;
  // (grad_output, input, weight, …, output_mask): as much for the input's gradient as for the weight's.
  if (name == "convolution_backward" && inputs.size() >= 4) {
    const c10::IValue& mask = inputs[inputs.size() - 1];
    int passes = 2;
    if (mask.isBoolList()) passes = (mask.toBoolList().get(0) ? 1 : 0) + (mask.toBoolList().get(1) ? 1 : 0);
    return passes * ConvolutionFlops(inputs[0], inputs[2]);
  }
  return 0;
}

}  // namespace

struct OperatorWatch::Recording {
  LayerWatch* watch = nullptr;
  at::CallbackHandle handle = at::INVALID_CALLBACK_HANDLE;
  int depth = 0;
  int64_t begin_ns = 0;
  double flops = 0;
  torch::Tensor convolved;  // the weight of the convolution under way

  static thread_local Recording* now;

  void Begin(const at::RecordFunction& function) {
    if (depth++ == 0) {
      flops = 0;
      begin_ns = MonotonicNanos();
    }
    const std::string name = NameOf(function);
    flops += InputFlops(name, function.inputs());
    if (name == "convolution" && function.inputs().size() >= 2 && function.inputs()[1].isTensor()) {
      convolved = function.inputs()[1].toTensor();
    }
  }
  void End(const at::RecordFunction& function) {
    if (NameOf(function) == "convolution" && convolved.defined() && !function.outputs().empty()) {
      flops += ConvolutionFlops(function.outputs()[0], convolved);
      convolved.reset();
    }
    if (--depth > 0) return;
    std::string name = NameOf(function);
    constexpr absl::string_view kNode = "autograd::engine::evaluate_function: ";  // around each node of the graph
    if (absl::StartsWith(name, kNode)) {
      watch->Backward(name.substr(kNode.size()), begin_ns, MonotonicNanos(), flops);
    } else {
      watch->Forward(name, begin_ns, MonotonicNanos(), flops);
    }
  }
  static std::string NameOf(const at::RecordFunction& function) {
    const std::string name = function.name();
    return name.compare(0, 6, "aten::") == 0 ? name.substr(6) : name;
  }
};

thread_local OperatorWatch::Recording* OperatorWatch::Recording::now = nullptr;

OperatorWatch::OperatorWatch(LayerWatch* watch) : recording_(std::make_unique<Recording>()) {
  recording_->watch = watch;
  Recording::now = recording_.get();
  recording_->handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(
                                     [](const at::RecordFunction& function) -> std::unique_ptr<at::ObserverContext> {
                                       if (Recording::now != nullptr) Recording::now->Begin(function);
                                       return nullptr;
                                     },
                                     [](const at::RecordFunction& function, at::ObserverContext*) {
                                       if (Recording::now != nullptr && Recording::now->depth > 0)
                                         Recording::now->End(function);
                                     })
                                     .needsInputs(true)
                                     .needsOutputs(true)
                                     .scopes({at::RecordScope::FUNCTION}));
}

OperatorWatch::~OperatorWatch() {
  at::removeCallback(recording_->handle);
  Recording::now = nullptr;
}

}  // namespace lockstep
