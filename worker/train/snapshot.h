#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/checkpoint/checkpoint.h"
#include "common/checkpoint/safetensors.h"
#include "lockstep/journal.pb.h"
#include "worker/coordinator_client/client.h"
#include "worker/model/model.h"
#include "worker/train/flat_parameters.h"
#include "worker/train/span_optimizer.h"

namespace lockstep {

// The tensors of a checkpoint as they were at one moment, in memory that is used again for the next: model.safetensors,
// with the names of the network's state_dict, and optimizer.safetensors, with `<state>/<parameter>` in the parameter's
// shape. Neither depends on the number of workers or on how parameters lie in the flat array. Where ranks have states
// of their own, ranks.safetensors holds those.
class Snapshot {
 public:
  // All outlive this.
  Snapshot(const Network* network, FlatParameters* parameters, SpanOptimizer* optimizer)
      : network_(network), parameters_(parameters), optimizer_(optimizer) {}

  // Copies. While training stands still.
  absl::Status Take();
  // ranks.safetensors: written before Take, by GatherRankStates. Empty: there is none.
  std::string* ranks() { return &files_[kRanks].bytes; }

  // Names and sizes, in the order of the bytes.
  std::vector<Manifest::File> files() const;
  // The bytes of all files, one after the other, at most 1 MiB a call; empty at the end. Valid until the next Take.
  absl::string_view NextChunk();
  // NextChunk starts at the front again.
  void Rewind() { file_ = 0, position_ = 0; }

 private:
  struct File {
    std::string name;
    std::string bytes;
  };
  enum : size_t { kModel, kOptimizer, kRanks };
  absl::Status TakeModel(File* file);
  absl::Status TakeOptimizer(File* file);

  const Network* const network_;
  FlatParameters* const parameters_;
  SpanOptimizer* const optimizer_;
  std::vector<File> files_ = {{kModelFile, ""}, {kOptimizerFile, ""}, {kRanksFile, ""}};
  size_t file_ = 0, position_ = 0;
};

// The reverse: puts a checkpoint's tensors back where they came from. DataLoss names the file and what does not fit.
// Leaves ranks.safetensors alone.
absl::Status RestoreTensors(CoordinatorLink::Downloaded checkpoint, Network* network, FlatParameters* parameters,
                            SpanOptimizer* optimizer);
// Its ranks.safetensors, which is taken out; a file without tensors if it has none. DataLoss: not such a file.
absl::StatusOr<SafetensorsFile> TakeRanksFile(CoordinatorLink::Downloaded* checkpoint);

}  // namespace lockstep
