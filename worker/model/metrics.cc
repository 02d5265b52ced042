#include <torch/types.h>

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/config/config.h"
#include "worker/model/objective.h"
#include "worker/model/torch_status.h"

namespace lockstep {
namespace {

constexpr size_t kSamples = 0, kLoss = 1, kFirstMetric = 2;
constexpr int64_t kTop = 5;

double Count(const torch::Tensor& hits) { return static_cast<double>(hits.sum().item<int64_t>()); }

bool HasLabels(const torch::Tensor& output, const torch::Tensor& target) {
  return target.scalar_type() == torch::kInt64 && target.dim() == 1 && output.dim() == 2 && output.size(1) > 1;
}

absl::Status Mismatch(Metric metric, const torch::Tensor& output, const torch::Tensor& target) {
  return absl::InvalidArgumentError(
      absl::StrCat("metric ", EnumWord(Metric_descriptor(), metric), " has no meaning for outputs of shape [",
                   absl::StrJoin(output.sizes(), ", "), "] and targets of shape [", absl::StrJoin(target.sizes(), ", "),
                   "], ", torch::toString(target.scalar_type()), ": leave it out of metrics"));
}

absl::StatusOr<double> Accuracy(const torch::Tensor& output, const torch::Tensor& target) {
  if (HasLabels(output, target)) return Count(output.argmax(1) == target);
  if (output.numel() != target.numel()) return Mismatch(METRIC_ACCURACY, output, target);
  const torch::Tensor hits = (output > 0) == (target.reshape(output.sizes()) > 0.5);
  return Count(hits) * static_cast<double>(output.size(0)) / static_cast<double>(output.numel());
}

// Ranks by what is strictly larger, so that equal outputs do not depend on how LibTorch sorts them.
absl::StatusOr<double> TopHits(const torch::Tensor& output, const torch::Tensor& target) {
  if (!HasLabels(output, target)) return Mismatch(METRIC_TOP5, output, target);
  const torch::Tensor own = output.gather(1, target.unsqueeze(1));
  return Count((output > own).sum(1) < kTop);
}

absl::StatusOr<double> AbsoluteError(const torch::Tensor& output, const torch::Tensor& target) {
  if (output.numel() != target.numel()) return Mismatch(METRIC_MAE, output, target);
  const double sum = (output - target.reshape(output.sizes())).abs().sum(torch::kFloat64).item<double>();
  return sum * static_cast<double>(output.size(0)) / static_cast<double>(output.numel());
}

absl::StatusOr<double> SumOf(Metric metric, const torch::Tensor& output, const torch::Tensor& target) {
  switch (metric) {
    case METRIC_ACCURACY:
      return Accuracy(output, target);
    case METRIC_TOP5:
      return TopHits(output, target);
    case METRIC_MAE:
      return AbsoluteError(output, target);
    default:
      return 0.0;  // follows from the loss
  }
}

}  // namespace

MetricSums::MetricSums(std::vector<Metric> metrics)
    : metrics_(std::move(metrics)), sums_(kFirstMetric + metrics_.size(), 0.0) {}

absl::Status MetricSums::Add(const torch::Tensor& output, const torch::Tensor& target, double mean_loss) {
  const torch::NoGradGuard no_grad;
  const double samples = output.dim() > 0 ? static_cast<double>(output.size(0)) : 0;
  if (samples == 0) return absl::OkStatus();
  try {
    for (size_t i = 0; i < metrics_.size(); ++i) {
      ASSIGN_OR_RETURN(const double sum, SumOf(metrics_[i], output, target));
      sums_[kFirstMetric + i] += sum;
    }
  } catch (const std::exception& error) {
    return TorchStatus(error, "metrics");
  }
  sums_[kSamples] += samples;
  sums_[kLoss] += mean_loss * samples;
  return absl::OkStatus();
}

std::map<std::string, double> MetricSums::Values() const {
  const double samples = sums_[kSamples];
  const double loss = samples > 0 ? sums_[kLoss] / samples : 0;
  std::map<std::string, double> values = {{EnumWord(Metric_descriptor(), METRIC_LOSS), loss}};
  for (size_t i = 0; i < metrics_.size(); ++i) {
    if (metrics_[i] == METRIC_LOSS) continue;
    const double mean = samples > 0 ? sums_[kFirstMetric + i] / samples : 0;
    values[EnumWord(Metric_descriptor(), metrics_[i])] = metrics_[i] == METRIC_PERPLEXITY ? std::exp(loss) : mean;
  }
  return values;
}

int64_t MetricSums::samples() const { return static_cast<int64_t>(sums_[kSamples]); }

}  // namespace lockstep
