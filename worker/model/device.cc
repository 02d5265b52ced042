#include "worker/model/device.h"

#include <torch/cuda.h>
#include <torch/version.h>

#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace lockstep {

int CountGpus() { return static_cast<int>(torch::cuda::device_count()); }

int PlaceOnHost(int rank) {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"}) {
    const char* const told = std::getenv(name);
    int place = 0;
    if (told != nullptr && absl::SimpleAtoi(told, &place) && place >= 0) return place;
  }
  return rank;
}

absl::StatusOr<std::string> ChooseDevice(Device asked, int place, int gpus) {
  if (asked == DEVICE_CPU) return std::string("cpu");
  if (gpus > 0) return absl::StrCat("cuda:", place % gpus);
  if (asked == DEVICE_AUTO) return std::string("cpu");
  return absl::FailedPreconditionError(
      absl::StrCat("device is cuda, and this LibTorch (", TORCH_VERSION, ") finds none; set device to cpu or auto"));
}

}  // namespace lockstep
