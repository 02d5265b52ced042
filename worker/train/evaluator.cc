#include "worker/train/evaluator.h"

#include <algorithm>
#include <exception>
#include <numeric>
#include <vector>

#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/data/plan.h"
#include "worker/model/torch_status.h"

namespace lockstep {
namespace {

std::vector<Metric> MetricsOf(const RunConfig& config) {
  std::vector<Metric> metrics;
  for (int metric : config.metrics()) metrics.push_back(static_cast<Metric>(metric));
  return metrics;
}

}  // namespace

Evaluator::Evaluator(const RunConfig& config, const std::string& device, const Dataset* data, int rank,
                     CommThread* comm)
    : config_(config),
      device_(device),
      data_(data),
      decoder_(config.data(), data->input(), data->target(), config.run().seed()),
      rank_(rank),
      comm_(comm),
      buffer_(decoder_, std::min<int64_t>(config.evaluation().batch_size(), data->size())) {}

absl::StatusOr<EvaluationResult> Evaluator::Evaluate(Network* network, Objective* objective, int world) {
  const int64_t start_ns = MonotonicNanos();
  torch::NoGradGuard no_grad;
  network->SetTraining(false);
  MetricSums sums(MetricsOf(config_));
  const Range share = ShareOf(data_->size(), rank_, world);
  for (int64_t begin = share.begin; begin < share.end; begin += config_.evaluation().batch_size()) {
    std::vector<int64_t> ids(std::min<int64_t>(config_.evaluation().batch_size(), share.end - begin));
    std::iota(ids.begin(), ids.end(), begin);
    RETURN_IF_ERROR(AddBatch(ids, network, objective, &sums));
  }
  if (comm_ != nullptr) {
    const auto bytes =
        absl::MakeSpan(reinterpret_cast<std::byte*>(sums.sums().data()), sums.sums().size() * sizeof(double));
    comm_->StartAllReduce("evaluation", bytes, DType::kF64, ReduceOp::kSum);
    RETURN_IF_ERROR(comm_->Wait());
  }
  EvaluationResult result;
  result.set_split("validation");
  result.set_samples(sums.samples());
  for (const auto& [name, value] : sums.Values()) (*result.mutable_metrics())[name] = value;
  result.set_seconds(static_cast<double>(MonotonicNanos() - start_ns) * 1e-9);
  return result;
}

absl::Status Evaluator::AddBatch(const std::vector<int64_t>& ids, Network* network, Objective* objective,
                                 MetricSums* sums) {
  Batch batch;
  try {
    buffer_.Decode(*data_, decoder_, ids, /*augment_epoch=*/-1, &batch);
    const torch::Tensor input = batch.input.to(device_), target = batch.target.to(device_);
    ASSIGN_OR_RETURN(const torch::Tensor output, network->Forward(input));
    ASSIGN_OR_RETURN(const torch::Tensor loss, objective->MeanLoss(output, target));
    return sums->Add(output, target, loss.item<double>());
  } catch (const std::exception& error) {
    return TorchStatus(error, "evaluation");
  }
}

}  // namespace lockstep
