#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "lockstep/run_config.pb.h"
#include "worker/model/model.h"

namespace lockstep {

// logistic, mlp, wide or cnn: a torch::nn::Sequential whose layers have the indices, sizes and initial weights of the
// same nn.Sequential in Python. Takes a sample in any shape that has model.inputs values.
//
// The cnn's images are data.shape ([height, width] or [channels, height, width]), else square.
absl::StatusOr<std::unique_ptr<Network>> CreateNativeModel(const RunConfig& config, const std::string& device);

}  // namespace lockstep
