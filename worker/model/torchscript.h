#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/model/model.h"

namespace lockstep {

// A network that torch.jit.script(net).save(path) wrote. Runs TorchScript alone, never Python code. Weights are those
// in the file; parameters that are one tensor there stay one.
//
// InvalidArgument, each saying what to do: not such a file; no parameters (frozen or optimised for inference);
// parameters of another type than float32; batch norm or dropout fixed by tracing; more than one input.
absl::StatusOr<std::unique_ptr<Network>> LoadTorchScriptModel(const std::string& path, const std::string& device);

}  // namespace lockstep
