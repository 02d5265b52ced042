#include "worker/model/torchscript.h"

#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>
#include <torch/version.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "worker/model/operator_watch.h"
#include "worker/model/torch_status.h"

namespace lockstep {
namespace {

using Object = c10::intrusive_ptr<c10::ivalue::Object>;

// Where a module keeps a tensor.
struct Slot {
  Object owner;
  size_t index = 0;
  const torch::Tensor& tensor() const { return owner->getSlot(index).toTensor(); }
};

struct FoundTensor {
  std::string name;
  Slot slot;
};

// A module's own tensors first, then its children's: the order of Python's state_dict.
void Collect(const Object& owner, const std::string& prefix, std::vector<FoundTensor>* parameters,
             std::vector<FoundTensor>* buffers) {
  const auto& type = owner->type();
  for (size_t i = 0; i < type->numAttributes(); ++i) {
    if (!owner->getSlot(i).isTensor() || !owner->getSlot(i).toTensor().defined()) continue;
    std::vector<FoundTensor>* const found = type->is_parameter(i) ? parameters : type->is_buffer(i) ? buffers : nullptr;
    if (found != nullptr) found->push_back({prefix + type->getAttributeName(i), {owner, i}});
  }
  for (size_t i = 0; i < type->numAttributes(); ++i) {
    if (!type->getAttribute(i)->is_module() || !owner->getSlot(i).isObject()) continue;
    Collect(owner->getSlot(i).toObject(), absl::StrCat(prefix, type->getAttributeName(i), "."), parameters, buffers);
  }
}

bool SharesMemory(const torch::Tensor& a, const torch::Tensor& b) {
  return a.is_same(b) || (a.numel() > 0 && b.numel() > 0 && a.storage().is_alias_of(b.storage()));
}

bool IsSameView(const torch::Tensor& a, const torch::Tensor& b) {
  return a.is_same(b) || (a.storage_offset() == b.storage_offset() && a.sizes() == b.sizes() &&
                          a.strides() == b.strides() && a.dtype() == b.dtype());
}

bool IsFixedFlag(const torch::jit::Value* flag) { return flag->node()->kind() == torch::jit::prim::Constant; }

// Tracing writes the mode of that moment into a layer's own code as a constant; a scripted layer reads self.training.
const char* FixedByTracing(const torch::jit::Block* block) {
  for (const torch::jit::Node* node : block->nodes()) {
    if (node->kind() == c10::Symbol::fromQualString("aten::batch_norm") && IsFixedFlag(node->input(5)))
      return "batch norm";
    if (node->kind() == c10::Symbol::fromQualString("aten::dropout") && IsFixedFlag(node->input(2))) return "dropout";
    for (const torch::jit::Block* inner : node->blocks()) {
      if (const char* found = FixedByTracing(inner)) return found;
    }
  }
  return nullptr;
}

class TorchScriptNetwork : public Network {
 public:
  TorchScriptNetwork(std::string path, torch::jit::Module module)
      : path_(std::move(path)), module_(std::move(module)) {}

  // Checks that it can be trained, and finds its tensors.
  absl::Status Prepare();

  absl::StatusOr<torch::Tensor> Forward(const torch::Tensor& input) override;
  void SetTraining(bool training) override { module_.train(training); }
  void Watch(LayerWatch* watch) override {
    operators_.reset();
    if (watch != nullptr) operators_ = std::make_unique<OperatorWatch>(watch);
  }
  const std::vector<NamedTensor>& parameters() const override { return parameters_; }
  const std::vector<NamedTensor>& buffers() const override { return buffers_; }
  const std::vector<NamedTensor>& frozen() const override { return frozen_; }
  const std::vector<std::pair<std::string, std::string>>& tied() const override { return tied_; }

 private:
  absl::Status CheckForward() const;
  // Gives one tensor object to all slots that hold the same memory, so that it has one gradient; fills tied_.
  absl::StatusOr<std::vector<FoundTensor>> Unify(const std::vector<FoundTensor>& found);
  // A script may put a new tensor into a buffer's slot; copies its value to the tensor that was handed out.
  void KeepBuffers();
  absl::Status Error(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": ", what));
  }

  const std::string path_;
  torch::jit::Module module_;
  std::vector<NamedTensor> parameters_, frozen_, buffers_;
  std::vector<Slot> buffer_slots_;  // of buffers_
  std::unique_ptr<OperatorWatch> operators_;
  std::vector<std::pair<std::string, std::string>> tied_;
};

absl::Status TorchScriptNetwork::Prepare() {
  std::vector<FoundTensor> parameters, buffers;
  Collect(module_._ivalue(), "", &parameters, &buffers);
  if (parameters.empty()) {
    return Error(
        "has no parameters to train: export it with torch.jit.script(net).save(...), without torch.jit.freeze or "
        "optimize_for_inference");
  }
  RETURN_IF_ERROR(CheckForward());
  ASSIGN_OR_RETURN(parameters, Unify(parameters));
  for (const FoundTensor& parameter : parameters) {
    const torch::Tensor& tensor = parameter.slot.tensor();
    if (tensor.scalar_type() != torch::kFloat32) {
      return Error(absl::StrCat("parameter ", parameter.name, " is ", torch::toString(tensor.scalar_type()),
                                ", and training takes float32: export the net after net.float()"));
    }
    (tensor.requires_grad() ? parameters_ : frozen_).push_back({parameter.name, tensor});
  }
  if (parameters_.empty()) {
    return Error("no parameter asks for a gradient: call net.requires_grad_(True) before exporting it");
  }
  ASSIGN_OR_RETURN(buffers, Unify(buffers));
  for (const FoundTensor& buffer : buffers) {
    if (buffer.slot.tensor().is_complex() || buffer.slot.tensor().is_quantized() || buffer.slot.tensor().is_sparse()) {
      return Error(absl::StrCat("buffer ", buffer.name, " is ", torch::toString(buffer.slot.tensor().scalar_type()),
                                ", which a checkpoint cannot hold: keep it as dense real numbers"));
    }
    buffers_.push_back({buffer.name, buffer.slot.tensor()});
    buffer_slots_.push_back(buffer.slot);
  }
  return absl::OkStatus();
}

absl::Status TorchScriptNetwork::CheckForward() const {
  const auto forward = module_.find_method("forward");
  if (!forward.has_value()) return Error("has no forward method: export a torch.nn.Module");
  int inputs = 0;
  for (const c10::Argument& argument : forward->function().getSchema().arguments()) {
    inputs += argument.name() != "self" && !argument.default_value().has_value();
  }
  if (inputs != 1) {
    return Error(
        absl::StrCat("forward takes ", inputs, " inputs, and training gives it one: export a net of one input"));
  }
  for (const torch::jit::Module& module : module_.modules()) {
    const auto method = module.find_method("forward");
    if (!method.has_value()) continue;
    if (const char* layer = FixedByTracing(method->graph()->block())) {
      return Error(absl::StrCat("its ", layer,
                                " cannot change between training and evaluation mode, as tracing leaves it: "
                                "export it with torch.jit.script in place of torch.jit.trace"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<FoundTensor>> TorchScriptNetwork::Unify(const std::vector<FoundTensor>& found) {
  std::vector<FoundTensor> unique;
  for (const FoundTensor& next : found) {
    const FoundTensor* first = nullptr;
    for (const FoundTensor& earlier : unique) {
      if (!SharesMemory(earlier.slot.tensor(), next.slot.tensor())) continue;
      if (!IsSameView(earlier.slot.tensor(), next.slot.tensor())) {
        return Error(absl::StrCat(earlier.name, " and ", next.name,
                                  " share memory but not shape: tie the whole tensor, or clone one before exporting"));
      }
      first = &earlier;
      break;
    }
    if (first == nullptr) {
      unique.push_back(next);
      continue;
    }
    tied_.emplace_back(next.name, first->name);
    next.slot.owner->setSlot(next.slot.index, first->slot.tensor());
  }
  return unique;
}

absl::StatusOr<torch::Tensor> TorchScriptNetwork::Forward(const torch::Tensor& input) {
  // The optimised graph appears after some calls and rounds differently from the first: a run that is resumed would not
  // repeat bitwise.
  const torch::jit::GraphOptimizerEnabledGuard plain(false);
  try {
    const c10::IValue output = module_.forward({input});
    KeepBuffers();
    if (output.isTensor()) return output.toTensor();
    return Error(absl::StrCat("forward returns ", output.tagKind(), ", and training takes one tensor"));
  } catch (const std::exception& error) {
    return TorchStatus(
        error, absl::StrCat(path_, ": forward of an input of shape [", absl::StrJoin(input.sizes(), ", "), "], ",
                            torch::toString(input.scalar_type())));
  }
}

void TorchScriptNetwork::KeepBuffers() {
  for (size_t i = 0; i < buffers_.size(); ++i) {
    const torch::Tensor& now = buffer_slots_[i].tensor();
    if (now.is_same(buffers_[i].tensor)) continue;
    const torch::NoGradGuard no_grad;
    buffers_[i].tensor.copy_(now);
    buffer_slots_[i].owner->setSlot(buffer_slots_[i].index, buffers_[i].tensor);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Network>> LoadTorchScriptModel(const std::string& path, const std::string& device) {
  if (!FileSystem::Real()->Exists(path)) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file, and model.torchscript names it: put it back"));
  }
  try {
    auto network = std::make_unique<TorchScriptNetwork>(path, torch::jit::load(path, torch::Device(device)));
    RETURN_IF_ERROR(network->Prepare());
    return network;
  } catch (const std::exception& error) {
    return TorchStatus(error, absl::StrCat(path, ": not a TorchScript file that LibTorch ", TORCH_VERSION,
                                           " can load; write it with torch.jit.script(net).save(...)"));
  }
}

}  // namespace lockstep
