#include "worker/model/objective.h"

#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/nn/functional/loss.h>
#include <torch/script.h>
#include <torch/version.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "worker/model/torch_status.h"

namespace lockstep {
namespace {

namespace F = torch::nn::functional;

// How far from 1 a sample's probabilities, written as floats, may add up.
constexpr double kRounding = 1e-3;

std::string ShapeOf(const torch::Tensor& tensor) { return absl::StrCat("[", absl::StrJoin(tensor.sizes(), ", "), "]"); }

bool AreLabels(const torch::Tensor& target) { return target.scalar_type() == torch::kInt64; }

// Smallest and largest element of a target that is not empty.
template <typename T>
std::pair<T, T> Extremes(const torch::Tensor& target) {
  if (!target.is_cpu()) return {target.min().item<T>(), target.max().item<T>()};
  const torch::Tensor values = target.contiguous();  // a copy only if it is not so already
  const T* const begin = values.data_ptr<T>();
  const auto [low, high] = std::minmax_element(begin, begin + values.numel());
  return {*low, *high};
}

class CrossEntropy : public Objective {
 public:
  absl::StatusOr<torch::Tensor> MeanLoss(const torch::Tensor& output, const torch::Tensor& target) override {
    if (AreLabels(target)) {
      RETURN_IF_ERROR(CheckLabels(output, target));
    } else if (output.sizes() != target.sizes()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "loss cross_entropy takes class labels, or a probability for each output: the targets are ", ShapeOf(target),
          " of floats, the outputs ", ShapeOf(output), "; set loss.name to mse for values"));
    } else {
      RETURN_IF_ERROR(CheckProbabilities(target));
    }
    return F::cross_entropy(output, target);
  }

 private:
  static absl::Status CheckProbabilities(const torch::Tensor& target) {
    const auto [low, high] = Extremes<float>(target);
    const double off = target.dim() < 2 ? 0 : (target.sum(1) - 1).abs().max().item<double>();
    if (low >= 0 && high <= 1 && off <= kRounding) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        "loss cross_entropy takes class labels, or a probability for each output, and the data's targets are from ",
        low, " to ", high, off > kRounding ? " and do not add up to 1" : "", ": set loss.name to mse for values"));
  }

  static absl::Status CheckLabels(const torch::Tensor& output, const torch::Tensor& target) {
    if (output.dim() != 2 || target.dim() != 1 || output.size(0) != target.size(0)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "loss cross_entropy takes outputs of shape [samples, classes] and one label a sample: the outputs are ",
          ShapeOf(output), ", the labels ", ShapeOf(target)));
    }
    // LibTorch would crash the device on a label out of range, and ignores -100.
    const auto [low, high] = Extremes<int64_t>(target);
    if (low < 0 || high >= output.size(1)) {
      return absl::InvalidArgumentError(absl::StrCat("label ", low < 0 ? low : high, " is out of range: the model has ",
                                                     output.size(1),
                                                     " outputs; set model.outputs to the number of classes"));
    }
    return absl::OkStatus();
  }
};

// `target` in the output's shape: [b] and [b, 1] are the same values. Without this LibTorch would compare each with
// each.
absl::StatusOr<torch::Tensor> LikeOutput(const torch::Tensor& output, const torch::Tensor& target, const char* loss) {
  const bool same =
      output.dim() > 0 && target.dim() > 0 && output.size(0) == target.size(0) && output.numel() == target.numel();
  if (!same) {
    return absl::InvalidArgumentError(absl::StrCat("loss ", loss, " takes a target for each output: the outputs are ",
                                                   ShapeOf(output), ", the targets ", ShapeOf(target),
                                                   "; set model.outputs to the values of a target"));
  }
  return target.reshape(output.sizes());
}

class MeanSquaredError : public Objective {
 public:
  absl::StatusOr<torch::Tensor> MeanLoss(const torch::Tensor& output, const torch::Tensor& target) override {
    if (AreLabels(target)) {
      return absl::InvalidArgumentError(
          "loss mse takes floating-point targets, and the data's are class labels: set loss.name to cross_entropy, or "
          "to "
          "bce for two classes and one output");
    }
    ASSIGN_OR_RETURN(const torch::Tensor like, LikeOutput(output, target, "mse"));
    return F::mse_loss(output, like);
  }
};

class BinaryCrossEntropy : public Objective {
 public:
  absl::StatusOr<torch::Tensor> MeanLoss(const torch::Tensor& output, const torch::Tensor& target) override {
    if (AreLabels(target) && output.numel() != target.numel()) {
      return absl::InvalidArgumentError(
          absl::StrCat("loss bce takes one output for labels 0 and 1, and the outputs are ", ShapeOf(output),
                       ": set model.outputs to 1, or loss.name to cross_entropy"));
    }
    ASSIGN_OR_RETURN(const torch::Tensor like, LikeOutput(output, target.to(torch::kFloat32), "bce"));
    const auto [low, high] = Extremes<float>(like);
    if (!(low >= 0 && high <= 1)) {
      return absl::InvalidArgumentError(absl::StrCat("loss bce takes targets from 0 to 1, and the data have ",
                                                     low < 0 ? low : high, ": set loss.name to cross_entropy or mse"));
    }
    return F::binary_cross_entropy_with_logits(output, like);
  }
};

class ScriptedLoss : public Objective {
 public:
  ScriptedLoss(std::string path, torch::jit::Module module) : path_(std::move(path)), module_(std::move(module)) {}

  absl::StatusOr<torch::Tensor> MeanLoss(const torch::Tensor& output, const torch::Tensor& target) override {
    const torch::jit::GraphOptimizerEnabledGuard plain(false);  // as in the network: no call differs from the first
    const c10::IValue result = module_.forward({output, target});
    if (!result.isTensor()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": returns ", result.tagKind(), ", and a loss is one tensor"));
    }
    const torch::Tensor loss = result.toTensor();
    const bool scalar = loss.numel() == 1 && loss.dim() == 0;
    const bool one_a_sample = loss.dim() == 1 && loss.size(0) == output.size(0);
    if (!loss.is_floating_point() || (!scalar && !one_a_sample)) {
      return absl::InvalidArgumentError(absl::StrCat(path_, ": returns ", torch::toString(loss.scalar_type()),
                                                     " of shape ", ShapeOf(loss), " for ", output.size(0),
                                                     " samples: return one loss a sample, or their mean"));
    }
    return scalar ? loss : loss.mean();
  }

 private:
  const std::string path_;
  torch::jit::Module module_;
};

// What LibTorch throws in any of them becomes a status here.
class Guarded : public Objective {
 public:
  Guarded(std::string where, std::unique_ptr<Objective> loss) : where_(std::move(where)), loss_(std::move(loss)) {}
  absl::StatusOr<torch::Tensor> MeanLoss(const torch::Tensor& output, const torch::Tensor& target) override {
    if (target.numel() == 0) return absl::InvalidArgumentError(absl::StrCat(where_, ": no samples, so no mean"));
    try {
      return loss_->MeanLoss(output, target);
    } catch (const std::exception& error) {
      return TorchStatus(error, absl::StrCat(where_, ", outputs ", ShapeOf(output), ", targets ", ShapeOf(target)));
    }
  }

 private:
  const std::string where_;
  const std::unique_ptr<Objective> loss_;
};

absl::StatusOr<std::unique_ptr<Objective>> LoadScriptedLoss(const std::string& path, const std::string& device) {
  if (!FileSystem::Real()->Exists(path)) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file, and loss.torchscript names it: put it back"));
  }
  try {
    torch::jit::Module module = torch::jit::load(path, torch::Device(device));
    if (module.parameters().size() > 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": a loss with parameters, which nothing would train: make them buffers, or part of the model"));
    }
    return std::make_unique<Guarded>(path, std::make_unique<ScriptedLoss>(path, std::move(module)));
  } catch (const std::exception& error) {
    return TorchStatus(error, absl::StrCat(path, ": not a TorchScript file that LibTorch ", TORCH_VERSION,
                                           " can load; write it with torch.jit.script(loss).save(...)"));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Objective>> CreateObjective(const Loss& loss, const std::string& device) {
  switch (loss.name()) {
    case LOSS_NAME_CROSS_ENTROPY:
      return std::make_unique<Guarded>("loss cross_entropy", std::make_unique<CrossEntropy>());
    case LOSS_NAME_MSE:
      return std::make_unique<Guarded>("loss mse", std::make_unique<MeanSquaredError>());
    case LOSS_NAME_BCE:
      return std::make_unique<Guarded>("loss bce", std::make_unique<BinaryCrossEntropy>());
    case LOSS_NAME_TORCHSCRIPT:
      return LoadScriptedLoss(loss.torchscript(), device);
    default:
      return absl::InvalidArgumentError(absl::StrCat("loss ", static_cast<int>(loss.name()), " is not known"));
  }
}

}  // namespace lockstep
