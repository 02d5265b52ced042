#pragma once

#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/run_config.pb.h"
#include "worker/model/model.h"
#include "worker/train/flat_memory.h"
#include "worker/train/layout.h"
#include "worker/train/pinned_memory.h"

namespace lockstep {

// The network's trainable parameters, moved into one flat float32 array: its own tensors become views into it, so
// that what an optimizer writes there is what the next forward pass reads. Trainer's thread alone.
class FlatParameters {
 public:
  // `order` as of ParameterLayout. InvalidArgument names a parameter that is not float32; DataLoss: the order is of
  // another model.
  static absl::StatusOr<ParameterLayout> LayoutOf(const Network& network, const Optimizer& optimizer,
                                                  const std::vector<int>& order = {});
  // In `memory`, `layout.elements()` floats that outlive this and the network, or if it is null in memory of its own.
  // `write`: puts the network's values there; else whoever shares the memory does, before they are read.
  FlatParameters(const ParameterLayout& layout, const Network& network, float* memory = nullptr, bool write = true);

  const ParameterLayout& layout() const { return layout_; }
  // In host memory; padding is 0.
  float* data() { return host_.data_ptr<float>(); }
  // The parameter of segment `i`, on the network's device.
  const torch::Tensor& parameter(size_t i) const { return parameters_[i]; }
  // Makes what was written to data() visible to a network on another device, and the other way round after its own
  // tensors were written. Nothing to do on the CPU.
  void Publish();
  void Fetch();

 private:
  const ParameterLayout layout_;
  const std::vector<torch::Tensor> parameters_;  // by segment
  std::unique_ptr<FlatMemory> own_;
  std::unique_ptr<PinnedMemory> pinned_;
  torch::Tensor host_, device_;  // the same array on the CPU
};

}  // namespace lockstep
