#include "worker/model/model.h"

#include "worker/model/native.h"
#include "worker/model/torchscript.h"

namespace lockstep {

const std::vector<NamedTensor>& Network::frozen() const {
  static const auto* const none = new std::vector<NamedTensor>();
  return *none;
}

absl::StatusOr<std::unique_ptr<Network>> CreateModel(const RunConfig& config, const std::string& device) {
  if (config.model().name() == MODEL_NAME_TORCHSCRIPT)
    return LoadTorchScriptModel(config.model().torchscript(), device);
  return CreateNativeModel(config, device);
}

}  // namespace lockstep
