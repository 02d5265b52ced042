#include "coordinator/state/bucket_tuner.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace lockstep {
namespace {

constexpr double kLeastGain = 0.01;
constexpr double kErrors = 3;  // of them a gain must be more than
constexpr size_t kLeastPairs = 2, kMostPairs = 4;
constexpr double kReach = 16;         // times or a part of the size that is set
constexpr double kLargestMb = 65536;  // as the setting's own bound
constexpr double kMadToSigma = 1.4826, kMedianError = 1.2533;

double Median(std::vector<double> values) {
  const size_t half = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(half), values.end());
  if (values.size() % 2 == 1) return values[half];
  return (values[half] + *std::max_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(half))) / 2;
}

std::vector<double> All(const std::vector<std::vector<double>>& blocks) {
  std::vector<double> all;
  for (const std::vector<double>& block : blocks) all.insert(all.end(), block.begin(), block.end());
  return all;
}

// The variance of a median.
double MedianVariance(const std::vector<double>& values) {
  const double median = Median(values);
  std::vector<double> deviations;
  for (const double value : values) deviations.push_back(std::abs(value - median));
  const double error = kMedianError * kMadToSigma * Median(deviations);
  return error * error / static_cast<double>(values.size());
}

std::string Percent(double change, double error) {
  return absl::StrFormat("%s%.1f%% ± %.1f%%", change < 0 ? "−" : "+", std::abs(100 * change), 200 * error);
}

}  // namespace

BucketTuner BucketTuner::Anew(double start_mb, double in_force_mb, int64_t step) {
  BucketTuner tuner(start_mb);
  tuner.best_mb_ = tuner.in_force_mb_ = in_force_mb;
  Move move;
  move.bucket_mb = in_force_mb;
  move.measure_steps = kBlockSteps;
  move.reason =
      absl::StrFormat("bucket_mb %g, in force at step %d, is measured: the search begins anew", in_force_mb, step);
  tuner.next_ = std::move(move);
  return tuner;
}

// Both have as many blocks.
BucketTuner::Comparison BucketTuner::Compare() const {
  Comparison comparison;
  const std::vector<double> best = All(best_), other = All(other_);
  comparison.best_s = Median(best);
  comparison.other_s = Median(other);
  comparison.change = comparison.other_s / comparison.best_s - 1;
  const size_t pairs = best_.size();
  double mean = 0, squares = 0;
  for (size_t i = 0; i < pairs; ++i) mean += (Median(other_[i]) - Median(best_[i])) / static_cast<double>(pairs);
  for (size_t i = 0; i < pairs; ++i) squares += std::pow(Median(other_[i]) - Median(best_[i]) - mean, 2);
  const double between = pairs < 2 ? 0 : squares / static_cast<double>(pairs - 1) / static_cast<double>(pairs);
  comparison.change_error = std::sqrt(MedianVariance(best) + MedianVariance(other) + between) / comparison.best_s;
  return comparison;
}

void BucketTuner::Measured(const BucketsMeasured& block) {
  if (over_ || next_) return;
  const std::vector<double> times(block.step_s().begin(), block.step_s().end());
  (in_force_mb_ == best_mb_ ? best_ : other_).push_back(times);
  if (other_mb_ == 0) return Turn();
  if (best_.size() != other_.size() || best_.size() < kLeastPairs) {
    return Try(best_.size() > other_.size() ? other_mb_ : best_mb_, "");
  }
  Judge();
}

void BucketTuner::Judge() {
  const Comparison comparison = Compare();
  const double margin = kErrors * comparison.change_error;
  if (comparison.change <= -kLeastGain && comparison.change < -margin) {
    gains_.push_back(Describe(best_mb_, other_mb_, comparison));
    best_mb_ = other_mb_;
    best_.clear();
    climbed_ = true;
    return Turn();
  }
  const bool hopeless = comparison.change - margin > -kLeastGain;
  if (!hopeless && best_.size() < kMostPairs) return Try(in_force_mb_ == best_mb_ ? other_mb_ : best_mb_, "");
  losses_.push_back(absl::StrFormat("%g: %s", other_mb_, Percent(comparison.change, comparison.change_error)));
  if (climbed_ || factor_ > 1) return Finish();
  factor_ = 1 / factor_;
  Turn();
}

// To the next size on the way, or, where the way ends, the other way or to the end.
void BucketTuner::Turn() {
  if (!InReach(best_mb_ * factor_)) {
    if (climbed_ || factor_ > 1) return Finish();
    factor_ = 1 / factor_;
    if (!InReach(best_mb_ * factor_)) return Finish();
  }
  other_mb_ = best_mb_ * factor_;
  other_.clear();
  // What was measured last stands beside what comes.
  if (best_.size() > 1) best_.erase(best_.begin(), best_.end() - 1);
  Try(best_.empty() ? best_mb_ : other_mb_, gains_.empty() ? "" : gains_.back());
}

bool BucketTuner::InReach(double bucket_mb) const {
  return bucket_mb >= start_mb_ / kReach && bucket_mb <= start_mb_ * kReach && bucket_mb <= kLargestMb;
}

void BucketTuner::Try(double bucket_mb, const std::string& why) {
  Move move;
  move.bucket_mb = bucket_mb;
  move.measure_steps = kBlockSteps;
  move.reason = absl::StrFormat("bucket_mb %g is measured, %g beside %g", bucket_mb, best_mb_, other_mb_);
  if (!why.empty()) absl::StrAppend(&move.reason, ", after ", why);
  next_ = std::move(move);
}

void BucketTuner::Finish() {
  Move move;
  move.bucket_mb = best_mb_;
  move.reason = gains_.empty() ? absl::StrFormat("bucket_mb %g is kept, no other was faster", best_mb_)
                               : absl::StrJoin(gains_, "; ");
  if (!losses_.empty()) absl::StrAppend(&move.reason, " (", absl::StrJoin(losses_, ", "), ")");
  next_ = std::move(move);
}

void BucketTuner::Moved() {
  in_force_mb_ = next_->bucket_mb;
  over_ = next_->measure_steps == 0;
  next_.reset();
}

std::string BucketTuner::Describe(double from_mb, double to_mb, const Comparison& comparison) {
  return absl::StrFormat("bucket_mb %g → %g: step %.4g → %.4g ms, %s", from_mb, to_mb, 1e3 * comparison.best_s,
                         1e3 * comparison.other_s, Percent(comparison.change, comparison.change_error));
}

}  // namespace lockstep
