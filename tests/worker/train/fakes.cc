#include "tests/worker/train/fakes.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/nn/functional.h>

#include <algorithm>
#include <cstring>

#include "common/base/stable_random.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

class ToyData : public Dataset {
 public:
  ToyData(int64_t samples, int64_t values, int64_t classes)
      : samples_(samples), inputs_(samples * values), labels_(samples) {
    input_.shape = {values};
    for (int64_t id = 0; id < samples; ++id) {
      labels_[id] = static_cast<uint8_t>(id % classes);
      StableRandom random(Mix({7, static_cast<uint64_t>(id)}));
      for (int64_t i = 0; i < values; ++i) {
        const uint64_t level = i % classes == labels_[id] ? 160 : 60;
        inputs_[id * values + i] = static_cast<uint8_t>(level + random.Below(80));
      }
    }
  }
  int64_t size() const override { return samples_; }
  const ArraySpec& input() const override { return input_; }
  const ArraySpec& target() const override { return target_; }
  RawSample Get(int64_t id) const override {
    const int64_t values = input_.elements();
    return {absl::MakeConstSpan(reinterpret_cast<const std::byte*>(inputs_.data()) + id * values, values),
            absl::MakeConstSpan(reinterpret_cast<const std::byte*>(labels_.data()) + id, 1)};
  }

 private:
  const int64_t samples_;
  ArraySpec input_, target_;
  std::vector<uint8_t> inputs_, labels_;
};

bool Contains(const std::vector<int64_t>& steps, int64_t step) {
  return std::find(steps.begin(), steps.end(), step) != steps.end();
}

}  // namespace

std::unique_ptr<Dataset> MakeToyData(int64_t samples, int64_t values, int64_t classes) {
  return std::make_unique<ToyData>(samples, values, classes);
}

RunConfig ToyConfig(int64_t batch) {
  RunConfig config;
  config.mutable_run()->set_seed(3);
  config.set_threads(1);
  config.set_accumulate(1);
  config.mutable_data()->set_global_batch_size(batch);
  config.mutable_data()->set_prefetch(2);
  config.mutable_data()->set_shuffle(true);
  config.mutable_data()->mutable_normalize()->set_std(1);
  config.mutable_model()->set_name(MODEL_NAME_MLP);
  config.mutable_model()->set_inputs(12);
  config.mutable_model()->set_outputs(4);
  config.mutable_model()->add_hidden(24);
  config.add_metrics(METRIC_ACCURACY);
  config.mutable_optimizer()->set_lr(0.1);
  config.mutable_optimizer()->set_momentum(0.9);
  config.mutable_optimizer()->set_weight_decay(0.001);
  config.mutable_communication()->set_bucket_mb(0.001);  // a bucket a parameter, nearly
  config.mutable_communication()->set_timeout(30);
  config.mutable_control()->set_timeout(30);
  config.mutable_evaluation()->set_batch_size(32);
  config.mutable_profile()->set_sample_every(5);
  return config;
}

OddNetwork::OddNetwork(uint64_t seed) {
  // Of its own, so that threads may make networks at the same time.
  const at::Generator random = at::detail::createCPUGenerator(seed);
  const auto trained = [](torch::Tensor tensor) { return tensor.set_requires_grad(true); };
  parameters_ = {{"encoder.weight", trained(torch::randn({kValues, kValues}, random))},
                 {"encoder.bias", trained(torch::randn({kValues}, random))},
                 {"unused", trained(torch::randn({3}, random))},
                 {"decoder.bias", trained(torch::randn({kValues}, random))}};
  frozen_ = {{"scale", torch::randn({kValues}, random)}};
  buffers_ = {{"running_mean", torch::zeros({kValues})}, {"batches", torch::zeros({}, torch::kInt64)}};
}

absl::StatusOr<torch::Tensor> OddNetwork::Forward(const torch::Tensor& input) {
  namespace F = torch::nn::functional;
  if (training_) {
    torch::NoGradGuard no_grad;
    buffers_[0].tensor.mul_(0.9).add_(input.mean(0), 0.1);
    buffers_[1].tensor.add_(1);
  }
  const torch::Tensor& weight = parameters_[0].tensor;
  const torch::Tensor hidden = torch::tanh(F::linear(input * frozen_[0].tensor, weight, parameters_[1].tensor));
  return F::linear(hidden, weight.t(), parameters_[3].tensor);
}

absl::Status FakeLink::WaitForGrant(int64_t step, absl::Duration timeout) {
  granted_through_ = std::min(script_.final_step, step - 1 + script_.grant_steps);
  return absl::OkStatus();
}

bool FakeLink::EvaluationDue(int64_t step) { return Contains(script_.evaluate_at, step); }
bool FakeLink::CheckpointDue(int64_t step) { return Contains(script_.checkpoint_at, step); }

int64_t FakeLink::HeldDirective() {
  ++steps_;
  int64_t held = 0;
  while (held < static_cast<int64_t>(script_.directives.size()) && script_.directives[held].first <= steps_) ++held;
  return held;
}

absl::StatusOr<Verdict> FakeLink::WaitForVerdict(int64_t step, absl::Duration timeout) {
  const auto found = script_.verdicts.find(step);
  return found == script_.verdicts.end() ? Verdict() : found->second;
}

absl::StatusOr<CheckpointCommitted> FakeLink::UploadCheckpoint(const CheckpointChunk::Header& header,
                                                               const ChunkSource& next) {
  std::string bytes;
  while (true) {
    ASSIGN_OR_RETURN(const absl::string_view chunk, next());
    if (chunk.empty()) break;
    bytes.append(chunk.data(), chunk.size());
  }
  Downloaded upload;
  upload.header = header;
  size_t begin = 0;
  for (const Manifest::File& file : header.files()) {
    upload.files.push_back(bytes.substr(begin, file.bytes()));
    begin += file.bytes();
  }
  if (begin != bytes.size()) return absl::DataLossError("the files are not as long as announced");
  uploads.push_back(std::move(upload));
  if (!script_.upload.ok()) return script_.upload;
  return CheckpointCommitted();
}

}  // namespace lockstep
