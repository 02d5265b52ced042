#pragma once

#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "worker/model/model.h"

namespace lockstep {

using Tensors = std::map<std::string, torch::Tensor>;

// A path in a folder of this process's own.
std::string TestPath(absl::string_view name);

// Runs tests/worker/model/reference.py with these arguments under the system's Python; a failure fails the test.
void RunReference(const std::vector<std::string>& arguments);

// A folder with what `reference.py scripts` writes; made once.
const std::string& ScriptsFolder();

void WriteTensors(const std::string& path, const Tensors& tensors);
Tensors ReadTensors(const std::string& path);

// The network's state_dict with further tensors beside it, as a file.
void WriteNetwork(const std::string& path, const Network& network, const Tensors& more);

// float32 values that look random, from -1 to 1.
torch::Tensor SomeFloats(const std::vector<int64_t>& shape);

}  // namespace lockstep
