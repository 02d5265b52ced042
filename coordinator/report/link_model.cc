#include "coordinator/report/link_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "common/base/statistics.h"

namespace lockstep {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
constexpr int kRounds = 4;  // of weighing and leaving out
// An outlier's residual is that many times the median one, and not small.
constexpr double kOutlier = 4.5, kSmallResidual = 0.05;
// Below this share of independence, latency and bandwidth are not told apart.
constexpr double kIndependent = 1e-3;
constexpr size_t kGroups = 10, kFewestGroups = 3;

struct Line {
  double latency_s = 0, seconds_per_byte = 0;
  bool told_apart = true;
  double Of(const LinkSample& sample) const { return latency_s * sample.alone + seconds_per_byte * sample.bytes; }
};

// Weights by `expected`, what each sample is expected to take.
Line Solve(const std::vector<const LinkSample*>& samples, const std::vector<double>& expected) {
  double mm = 0, mb = 0, bb = 0, mt = 0, bt = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const LinkSample& one = *samples[i];
    const double weight = 1 / (expected[i] * expected[i]);
    mm += weight * one.alone * one.alone;
    mb += weight * one.alone * one.bytes;
    bb += weight * one.bytes * one.bytes;
    mt += weight * one.alone * one.seconds;
    bt += weight * one.bytes * one.seconds;
  }
  const double determinant = mm * bb - mb * mb;
  const bool told_apart = determinant > kIndependent * mm * bb;
  if (told_apart) {
    const Line line = {(mt * bb - bt * mb) / determinant, (bt * mm - mt * mb) / determinant, true};
    if (line.latency_s >= 0) return line;
  }
  return {0, bt / bb, told_apart};
}

std::vector<const LinkSample*> WithoutOutliers(const std::vector<const LinkSample*>& samples, const Line& line) {
  std::vector<double> residuals;
  for (const LinkSample* one : samples) residuals.push_back(std::abs(one->seconds / line.Of(*one) - 1));
  std::vector<double> sorted = residuals;
  const double most = std::max(kSmallResidual, kOutlier * Percentile(&sorted, 0.5));
  std::vector<const LinkSample*> kept;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (residuals[i] <= most) kept.push_back(samples[i]);
  }
  return kept;
}

std::optional<Line> Fit(const std::vector<const LinkSample*>& all) {
  double bytes = 0, seconds = 0;
  for (const LinkSample* one : all) {
    bytes += one->bytes;
    seconds += one->seconds;
  }
  if (bytes <= 0 || seconds <= 0) return std::nullopt;
  Line line = {0, seconds / bytes, true};
  std::vector<const LinkSample*> samples = all;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<double> expected;
    for (const LinkSample* one : samples) expected.push_back(line.Of(*one));
    line = Solve(samples, expected);
    if (line.seconds_per_byte <= 0) return std::nullopt;
    samples = WithoutOutliers(all, line);
  }
  return line;
}

// Half of a 95% interval, from the values without each group.
double Jackknife(const std::vector<double>& without) {
  const auto groups = static_cast<double>(without.size());
  if (without.size() < kFewestGroups) return kUnknown;
  double mean = 0, squares = 0;
  for (const double value : without) mean += value / groups;
  for (const double value : without) squares += (value - mean) * (value - mean);
  return StudentT95(static_cast<int>(without.size()) - 1) * std::sqrt((groups - 1) / groups * squares);
}

}  // namespace

std::vector<LinkSample> QueueOf(std::vector<MessageRow> messages) {
  std::sort(messages.begin(), messages.end(),
            [](const MessageRow& a, const MessageRow& b) { return a.came < b.came; });
  std::map<int, LinkSample> by_seq;
  double before = 0;
  for (const MessageRow& one : messages) {
    const double ready = std::max(one.sent, one.ready);
    if (one.sent > 0) {
      LinkSample& sample = by_seq[one.seq];
      sample.step = one.step;
      sample.alone += ready > before ? 1 : 0;
      sample.bytes += static_cast<double>(one.bytes);
      sample.seconds += one.came - std::max(ready, before);
      ++sample.messages;
    }
    before = one.came;
  }
  std::vector<LinkSample> samples;
  for (const auto& [seq, sample] : by_seq) samples.push_back(sample);
  return samples;
}

std::optional<LinkFit> FitLink(const std::vector<LinkSample>& samples) {
  std::vector<const LinkSample*> all;
  std::set<int64_t> steps;
  for (const LinkSample& one : samples) {
    if (one.bytes > 0) all.push_back(&one);
    steps.insert(one.step);
  }
  const std::optional<Line> whole = Fit(all);
  if (!whole.has_value()) return std::nullopt;
  const std::vector<int64_t> in_order(steps.begin(), steps.end());
  const size_t groups = std::min(kGroups, in_order.size());
  std::vector<double> latencies, bandwidths;
  for (size_t group = 0; group < groups; ++group) {
    std::vector<const LinkSample*> others;
    for (const LinkSample* one : all) {
      const auto place = std::lower_bound(in_order.begin(), in_order.end(), one->step) - in_order.begin();
      if (static_cast<size_t>(place) % groups != group) others.push_back(one);
    }
    if (const std::optional<Line> line = Fit(others); line.has_value()) {
      latencies.push_back(line->latency_s);
      bandwidths.push_back(1 / line->seconds_per_byte);
    }
  }
  LinkFit fit;
  fit.latency_s = whole->told_apart ? whole->latency_s : kUnknown;
  fit.latency_error_s = whole->told_apart ? Jackknife(latencies) : kUnknown;
  fit.bandwidth = 1 / whole->seconds_per_byte;
  fit.bandwidth_error = Jackknife(bandwidths);
  return fit;
}

}  // namespace lockstep
