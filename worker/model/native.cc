#include "worker/model/native.h"

#include <torch/nn.h>
#include <torch/utils.h>

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "worker/model/eager_linear.h"
#include "worker/model/torch_status.h"

namespace lockstep {
namespace {

// When the gradients of the layers' outputs were there: a layer's backward pass begins with that of its own and ends
// with that of the layer below it, the lowest one's with the pass.
struct BackwardMoments {
  struct Layer {
    std::string name;
    double flops = 0;
  };
  LayerWatch* watch = nullptr;
  std::vector<Layer> layers;
  size_t under_way = 0;
  int64_t begin_ns = 0;  // 0: none is under way

  void Begin(size_t layer) {
    End();
    under_way = layer;
    begin_ns = MonotonicNanos();
  }
  void End() {
    if (begin_ns == 0) return;
    watch->Backward(layers[under_way].name, begin_ns, MonotonicNanos(), layers[under_way].flops);
    begin_ns = 0;
  }
};

class NativeNetwork : public Network {
 public:
  NativeNetwork(torch::nn::Sequential net, int64_t inputs) : net_(std::move(net)), inputs_(inputs) {
    for (const auto& item : net_->named_parameters()) parameters_.push_back({item.key(), item.value()});
  }

  absl::StatusOr<torch::Tensor> Forward(const torch::Tensor& input) override {
    const int64_t batch = input.dim() > 0 ? input.size(0) : 0;
    if (batch == 0 || input.numel() != batch * inputs_) {
      return absl::InvalidArgumentError(
          absl::StrCat("the model takes ", inputs_, " values a sample, and was given a batch of shape [",
                       absl::StrJoin(input.sizes(), ", "), "]: set model.inputs, or data that fit it"));
    }
    try {
      const torch::Tensor flat = input.reshape({batch, inputs_}).to(torch::kFloat32);
      return watch_ == nullptr ? net_->forward(flat) : WatchedForward(flat);
    } catch (const std::exception& error) {
      return TorchStatus(error, "forward pass");
    }
  }

  void SetTraining(bool training) override { net_->train(training); }
  void Watch(LayerWatch* watch) override;
  const std::vector<NamedTensor>& parameters() const override { return parameters_; }
  const std::vector<NamedTensor>& buffers() const override { return buffers_; }
  const std::vector<std::pair<std::string, std::string>>& tied() const override { return tied_; }

 private:
  torch::Tensor WatchedForward(torch::Tensor value);

  torch::nn::Sequential net_;
  LayerWatch* watch_ = nullptr;
  std::shared_ptr<BackwardMoments> watched_;  // of the last forward pass
  const int64_t inputs_;
  std::vector<NamedTensor> parameters_;
  const std::vector<NamedTensor> buffers_;
  const std::vector<std::pair<std::string, std::string>> tied_;
};

// Of a layer's forward pass: what its matrix needs.
double ForwardFlops(const torch::nn::Module& layer, const torch::Tensor& output) {
  const auto values = static_cast<double>(output.numel());
  for (const auto& parameter : layer.named_parameters(/*recurse=*/false)) {
    if (parameter.key() != "weight" || parameter.value().size(0) == 0) continue;
    return 2 * values * static_cast<double>(parameter.value().numel() / parameter.value().size(0));
  }
  return 0;
}

// "Linear", of torch::nn::LinearImpl or our own.
std::string ShortName(const torch::nn::Module& layer) {
  const std::string name = layer.name();
  absl::string_view last = absl::string_view(name).substr(name.rfind(':') + 1);
  absl::ConsumeSuffix(&last, "Impl");
  absl::ConsumePrefix(&last, "Eager");
  return std::string(last);
}

torch::Tensor NativeNetwork::WatchedForward(torch::Tensor value) {
  const auto moments = std::make_shared<BackwardMoments>();
  moments->watch = watch_;
  for (const auto& child : net_->named_children()) {
    const size_t number = moments->layers.size();
    const int passes = value.requires_grad() ? 2 : 1;  // backward: the weight's gradient, and the input's if asked for
    const int64_t begin_ns = MonotonicNanos();
    value = (net_->begin() + static_cast<std::ptrdiff_t>(number))->any_forward(std::move(value)).get<torch::Tensor>();
    const double flops = ForwardFlops(*child.value(), value);
    const std::string name = absl::StrCat(child.key(), " ", ShortName(*child.value()));
    watch_->Forward(name, begin_ns, MonotonicNanos(), flops);
    moments->layers.push_back({name, passes * flops});
    if (!value.requires_grad()) continue;
    value.register_hook([moments, number](const torch::Tensor& gradient) {
      moments->Begin(number);
      return gradient;
    });
  }
  watched_ = moments;
  return value;
}

void NativeNetwork::Watch(LayerWatch* watch) {
  if (watch == nullptr && watched_ != nullptr) watched_->End();
  watched_ = nullptr;
  watch_ = watch;
}

// Linear layers with ReLU between them.
torch::nn::Sequential Perceptron(int64_t inputs, const std::vector<int64_t>& hidden, int64_t outputs) {
  torch::nn::Sequential net;
  int64_t width = inputs;
  for (int64_t size : hidden) {
    net->push_back(EagerLinear(width, size));
    net->push_back(torch::nn::ReLU());
    width = size;
  }
  net->push_back(EagerLinear(width, outputs));
  return net;
}

struct ImageShape {
  int64_t channels = 1, height = 0, width = 0;
};

absl::StatusOr<ImageShape> ImageShapeOf(const RunConfig& config) {
  const auto& shape = config.data().shape();
  const int64_t inputs = config.model().inputs();
  ImageShape image;
  if (shape.size() == 2) {
    image = {1, shape[0], shape[1]};
  } else if (shape.size() == 3) {
    image = {shape[0], shape[1], shape[2]};
  } else {
    const int64_t side = std::llround(std::sqrt(static_cast<double>(inputs)));
    image = {1, side, side};
  }
  if (image.channels * image.height * image.width != inputs) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model cnn takes images, and the ", inputs, " values of a sample make none of ", image.channels, " x ",
        image.height, " x ", image.width, ": set data.shape to [height, width] or [channels, height, width]"));
  }
  if (image.height < 6 || image.width < 6) {
    return absl::InvalidArgumentError(absl::StrCat("model cnn takes images of at least 6 x 6, and a sample's are ",
                                                   image.height, " x ", image.width,
                                                   ": set data.shape, or take model mlp"));
  }
  return image;
}

torch::nn::Sequential Convolutional(const ImageShape& image, int64_t outputs) {
  namespace nn = torch::nn;
  // Two convolutions of 3 x 3 take off 4 rows and columns, pooling halves what is left.
  const int64_t features = 64 * ((image.height - 4) / 2) * ((image.width - 4) / 2);
  const std::vector<int64_t> sizes = {image.channels, image.height, image.width};
  nn::Sequential net;  // layer by layer: as arguments of one call, their weights would be drawn in any order
  net->push_back(nn::Unflatten(nn::UnflattenOptions(1, sizes)));
  net->push_back(nn::Conv2d(nn::Conv2dOptions(image.channels, 32, 3)));
  net->push_back(nn::ReLU());
  net->push_back(nn::Conv2d(nn::Conv2dOptions(32, 64, 3)));
  net->push_back(nn::ReLU());
  net->push_back(nn::MaxPool2d(nn::MaxPool2dOptions(2)));
  net->push_back(nn::Flatten());
  net->push_back(EagerLinear(features, 128));
  net->push_back(nn::ReLU());
  net->push_back(EagerLinear(128, outputs));
  return net;
}

std::vector<int64_t> HiddenSizes(const Model& model, int64_t default_size) {
  if (model.hidden().empty()) return {default_size, default_size};
  return {model.hidden().begin(), model.hidden().end()};
}

absl::StatusOr<torch::nn::Sequential> Build(const RunConfig& config) {
  const Model& model = config.model();
  switch (model.name()) {
    case MODEL_NAME_LOGISTIC:
      return Perceptron(model.inputs(), {}, model.outputs());
    case MODEL_NAME_MLP:
      return Perceptron(model.inputs(), HiddenSizes(model, 1024), model.outputs());
    case MODEL_NAME_WIDE:
      return Perceptron(model.inputs(), HiddenSizes(model, 4096), model.outputs());
    case MODEL_NAME_CNN: {
      ASSIGN_OR_RETURN(const ImageShape image, ImageShapeOf(config));
      return Convolutional(image, model.outputs());
    }
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("model ", static_cast<int>(model.name()), " is not a built-in one"));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Network>> CreateNativeModel(const RunConfig& config, const std::string& device) {
  if (config.model().inputs() < 1 || config.model().outputs() < 1) {
    return absl::InvalidArgumentError(
        "the sizes of the model are not known: set model.inputs and model.outputs, or data to take them from");
  }
  try {
    torch::manual_seed(config.run().seed());
    ASSIGN_OR_RETURN(torch::nn::Sequential net, Build(config));
    net->to(torch::Device(device));
    return std::make_unique<NativeNetwork>(std::move(net), config.model().inputs());
  } catch (const std::exception& error) {
    return TorchStatus(error, absl::StrCat("making the model on ", device));
  }
}

}  // namespace lockstep
