#include "worker/model/offline_run.h"

#include <torch/cuda.h>
#include <torch/utils.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "common/checkpoint/checkpoint.h"
#include "common/checkpoint/safetensors.h"
#include "common/config/config.h"
#include "worker/model/weights.h"

namespace lockstep {
namespace {

struct Batch {
  torch::Tensor input, target;
};

torch::Tensor EmptyBatch(int64_t samples, const std::vector<int64_t>& sample_shape, bool is_float) {
  std::vector<int64_t> shape = {samples};
  shape.insert(shape.end(), sample_shape.begin(), sample_shape.end());
  return torch::empty(shape, is_float ? torch::kFloat32 : torch::kInt64);
}

char* RowOf(torch::Tensor& batch, int64_t row, int64_t elements) {
  return static_cast<char*>(batch.data_ptr()) + row * elements * static_cast<int64_t>(batch.element_size());
}

Batch ReadBatch(const Dataset& dataset, const Decoder& decoder, int64_t first, int64_t samples) {
  Batch batch = {EmptyBatch(samples, decoder.input_shape(), decoder.input_is_float()),
                 EmptyBatch(samples, decoder.target_shape(), !decoder.target_is_integer())};
  for (int64_t i = 0; i < samples; ++i) {
    const RawSample sample = dataset.Get(first + i);
    decoder.DecodeInput(sample, first + i, /*epoch=*/0, /*augment=*/false,
                        RowOf(batch.input, i, decoder.input_elements()));
    decoder.DecodeTarget(sample, RowOf(batch.target, i, decoder.target_elements()));
  }
  return batch;
}

std::string DeviceFor(Device device) { return device != DEVICE_CPU && torch::cuda::is_available() ? "cuda:0" : "cpu"; }

}  // namespace

absl::StatusOr<std::unique_ptr<OfflineRun>> OfflineRun::Open(const OfflineOptions& options) {
  std::unique_ptr<OfflineRun> run(new OfflineRun());
  RETURN_IF_ERROR(run->OpenConfig(options));
  RETURN_IF_ERROR(run->OpenNetwork(options.checkpoint));
  RETURN_IF_ERROR(run->OpenData(options.split));
  return run;
}

absl::Status OfflineRun::OpenConfig(const OfflineOptions& options) {
  ASSIGN_OR_RETURN(config_, ReadRunConfig(options.config));
  if (!options.data.empty()) config_.mutable_data()->set_path(options.data);
  device_ = DeviceFor(config_.device());
  torch::set_num_threads(std::max(1, config_.threads()));
  return absl::OkStatus();
}

absl::Status OfflineRun::OpenNetwork(const std::string& folder) {
  std::error_code error;
  const std::filesystem::path resolved = std::filesystem::canonical(folder, error);
  if (error) return absl::NotFoundError(absl::StrCat(folder, ": no such checkpoint (", error.message(), ")"));
  checkpoint_ = resolved.filename().string();
  RETURN_IF_ERROR(VerifyCheckpoint(FileSystem::Real(), resolved.string()).status());
  const std::string file = JoinPath(resolved.string(), kModelFile);
  ASSIGN_OR_RETURN(const SafetensorsFile weights, ReadSafetensors(file));
  ASSIGN_OR_RETURN(network_, CreateModel(config_, device_));
  RETURN_IF_ERROR(Annotate(LoadCheckpointWeights(weights, network_.get()).status(), file));
  network_->SetTraining(false);
  return absl::OkStatus();
}

absl::Status OfflineRun::OpenData(const std::string& split) {
  const bool train = split == "train";
  if (!train && split != "val" && split != "validation") {
    return absl::InvalidArgumentError(absl::StrCat("--split ", split, ": give val or train"));
  }
  split_ = train ? "train" : "validation";
  ASSIGN_OR_RETURN(dataset_, OpenDataset(config_.data(), train ? Split::kTrain : Split::kValidation));
  decoder_ = std::make_unique<Decoder>(config_.data(), dataset_->input(), dataset_->target(), config_.run().seed());
  return absl::OkStatus();
}

absl::Status OfflineRun::ForEachBatch(const BatchFn& fn) {
  const torch::NoGradGuard no_grad;
  const int64_t batch_size = config_.evaluation().batch_size();
  for (int64_t first = 0; first < dataset_->size(); first += batch_size) {
    const Batch batch = ReadBatch(*dataset_, *decoder_, first, std::min(batch_size, dataset_->size() - first));
    ASSIGN_OR_RETURN(const torch::Tensor output, network_->Forward(batch.input.to(device_)));
    RETURN_IF_ERROR(fn(first, output.to(torch::kCPU), batch.target));
  }
  return absl::OkStatus();
}

}  // namespace lockstep
