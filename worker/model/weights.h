#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/checkpoint/safetensors.h"
#include "lockstep/run_config.pb.h"
#include "worker/model/model.h"

namespace lockstep {

// A network's state_dict: parameters, frozen ones and buffers in order of registration, then the names that share one
// of these, with the same bytes again, so that Python's load_state_dict finds every name it looks for.
struct SavedWeights {
  std::vector<TensorInfo> tensors;    // begin and end are MakeSafetensorsHeader's to fill in
  std::vector<torch::Tensor> values;  // in the same order; contiguous, in the CPU's memory
  // Valid as long as `values`.
  absl::string_view bytes(size_t index) const;
};

// `copy`: values of their own, which training does not change; else, on the CPU, the network's own memory.
SavedWeights SaveWeights(const Network& network, bool copy);

// What became of a file's tensors, by name.
struct LoadReport {
  std::vector<std::string> taken;
  std::vector<std::string> missing;  // the network's, not in the file
  std::vector<std::string> unfit;    // "0.weight (F32 [10, 5] in the file, F32 [10, 784] in the model)"
  std::vector<std::string> extra;    // the file's, not in the network
  // "6 of 6 tensors taken", or with what was not: "4 of 6 tensors taken; missing: 2.bias; of another shape: …".
  std::string Summary() const;
};

// Writes the file's weights into the network's tensors, converting between floating-point types. A tied tensor is taken
// under any of its names. INIT_MATCH_ALL: InvalidArgument, and nothing changed, unless the file has every parameter in
// the same shape (a buffer may be missing). INIT_MATCH_MATCHING: InvalidArgument if it has none.
absl::StatusOr<LoadReport> LoadWeights(const SafetensorsFile& file, InitMatch match, Network* network);
// INIT_MATCH_ALL of a checkpoint's own weights: they fit unless the model's file is not what it was.
absl::StatusOr<LoadReport> LoadCheckpointWeights(const SafetensorsFile& file, Network* network);

}  // namespace lockstep
