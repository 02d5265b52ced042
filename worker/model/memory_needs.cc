#include "worker/model/memory_needs.h"

#include <malloc.h>
#include <torch/types.h>

#include <algorithm>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/base/status.h"
#include "worker/model/torch_status.h"

namespace lockstep {
namespace {

// For what is made once: the smallest batch that batch normalisation takes.
constexpr int64_t kFirst = 2;
// Then two of which the larger has so many samples, to stand out from what the allocator keeps; fewer where it would
// take longer.
constexpr int64_t kMost = 64, kLeast = 8;
constexpr double kSeconds = 10;
// Step after step the C library's allocator keeps more than is in use: workers of cnn and mlp were seen at 1.2 to 1.6
// times it.
constexpr double kKept = 1.5;

torch::Tensor BatchOf(int64_t samples, const Decoder& decoder) {
  std::vector<int64_t> shape = decoder.input_shape();
  shape.insert(shape.begin(), samples);
  return torch::zeros(shape, decoder.input_is_float() ? torch::kFloat32 : torch::kInt64);
}

int64_t OfThisProcess(absl::string_view name) {
  const absl::StatusOr<std::string> status = FileSystem::Real()->Read("/proc/self/status");
  return status.ok() ? BytesInLine(*status, name).value_or(0) : 0;
}

// What this process holds at most in a forward and a backward pass. Not what LibTorch's allocator counts, since
// convolutions have memory beside it.
absl::StatusOr<int64_t> MostInPasses(int64_t samples, const Decoder& decoder, Network* network) {
  const torch::Tensor input = BatchOf(samples, decoder);
  malloc_trim(0);                                 // what earlier passes have left
  std::ofstream("/proc/self/clear_refs") << "5";  // VmHWM begins anew
  try {
    ASSIGN_OR_RETURN(const torch::Tensor output, network->Forward(input));
    output.sum().backward();
  } catch (const std::exception& error) {
    return TorchStatus(error, "trying a small batch");
  }
  return OfThisProcess("VmHWM");
}

}  // namespace

absl::StatusOr<MemoryNeeds> MeasureMemory(int64_t samples, const Decoder& decoder, Network* network) {
  network->SetTraining(true);
  const int64_t start_ns = MonotonicNanos();
  RETURN_IF_ERROR(MostInPasses(kFirst, decoder, network).status());
  const double in_time = kSeconds * 1e9 * kFirst / static_cast<double>(MonotonicNanos() - start_ns);
  int64_t parameters = 0;
  for (const NamedTensor& parameter : network->parameters()) parameters += parameter.tensor.nbytes();
  MemoryNeeds needs;
  needs.process = std::max<int64_t>(0, OfThisProcess("RssAnon") - 2 * parameters);  // gradients are as large
  const int64_t larger = std::clamp(static_cast<int64_t>(in_time), kLeast, kMost), smaller = larger / 4;
  ASSIGN_OR_RETURN(const int64_t of_smaller, MostInPasses(smaller, decoder, network));
  ASSIGN_OR_RETURN(const int64_t of_larger, MostInPasses(larger, decoder, network));
  const auto more = static_cast<double>(std::max<int64_t>(0, of_larger - of_smaller));
  needs.activations =
      static_cast<int64_t>(kKept * more * static_cast<double>(samples) / static_cast<double>(larger - smaller));
  needs.input = BatchOf(1, decoder).nbytes() * samples;
  needs.addresses = OfThisProcess("VmPeak");
  return needs;
}

}  // namespace lockstep
