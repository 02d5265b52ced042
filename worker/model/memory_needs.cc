#include "worker/model/memory_needs.h"

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/types.h>

#include <algorithm>
#include <exception>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "worker/model/torch_status.h"

namespace lockstep {
namespace {

// Two that batch normalisation takes.
constexpr int64_t kFew = 2, kMore = 4;

// Counts what LibTorch allocates and frees on this thread.
class Tally : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void* /*at*/, int64_t bytes, int64_t /*allocated*/, int64_t /*reserved*/,
                         c10::Device /*device*/) override {
    now_ += bytes;
    most_ = std::max(most_, now_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t most() const { return most_; }

 private:
  int64_t now_ = 0, most_ = 0;
};

torch::Tensor BatchOf(int64_t samples, const Decoder& decoder) {
  std::vector<int64_t> shape = decoder.input_shape();
  shape.insert(shape.begin(), samples);
  return torch::zeros(shape, decoder.input_is_float() ? torch::kFloat32 : torch::kInt64);
}

// What a forward and a backward pass hold at most.
absl::StatusOr<int64_t> Hold(int64_t samples, const Decoder& decoder, Network* network) {
  const torch::Tensor input = BatchOf(samples, decoder);
  const auto tally = std::make_shared<Tally>();
  const c10::DebugInfoGuard counted(c10::DebugInfoKind::PROFILER_STATE, tally);
  try {
    ASSIGN_OR_RETURN(const torch::Tensor output, network->Forward(input));
    output.sum().backward();
  } catch (const std::exception& error) {
    return TorchStatus(error, "trying a small batch");
  }
  return tally->most();
}

// A line of /proc/self/status; 0: it is not there.
int64_t OfThisProcess(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string label;
    int64_t kib = 0;
    if (words >> label >> kib && label == name + ":") return kib << 10;
  }
  return 0;
}

}  // namespace

absl::StatusOr<MemoryNeeds> MeasureMemory(int64_t samples, const Decoder& decoder, Network* network) {
  network->SetTraining(true);
  RETURN_IF_ERROR(Hold(kFew, decoder, network).status());  // what is made once: gradients, and libraries' own
  ASSIGN_OR_RETURN(const int64_t few, Hold(kFew, decoder, network));
  ASSIGN_OR_RETURN(const int64_t more, Hold(kMore, decoder, network));
  int64_t parameters = 0;
  for (const NamedTensor& parameter : network->parameters()) parameters += parameter.tensor.nbytes();
  MemoryNeeds needs;
  needs.process = std::max<int64_t>(0, OfThisProcess("RssAnon") - 2 * parameters);  // gradients are as large
  needs.activations = few + (more - few) * std::max<int64_t>(0, samples - kFew) / (kMore - kFew);
  needs.input = BatchOf(1, decoder).nbytes() * samples;
  needs.addresses = OfThisProcess("VmPeak");
  return needs;
}

}  // namespace lockstep
