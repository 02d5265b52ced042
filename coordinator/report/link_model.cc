#include "coordinator/report/link_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "common/base/statistics.h"

namespace lockstep {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
// Below this ratio of the largest message to the smallest, sizes do not tell latency from bandwidth.
constexpr double kUnlike = 2;
constexpr size_t kFewestSteps = 3;
// Of normal values: standard deviation over the median distance from the median; error of their median over their
// mean's.
constexpr double kDeviationOverMedian = 1.4826, kMedianOverMean = 1.2533;

// Seconds per byte of the messages that queued: the median, each message counting by its bytes. NaN of none.
double SlopeOfQueued(const std::vector<LinkSample>& step) {
  std::vector<std::pair<double, double>> queued;  // seconds per byte, bytes
  double bytes = 0;
  for (const LinkSample& one : step) {
    if (one.alone) continue;
    queued.emplace_back(one.seconds / one.bytes, one.bytes);
    bytes += one.bytes;
  }
  std::sort(queued.begin(), queued.end());
  double below = 0;
  for (const auto& [slope, weight] : queued) {
    below += weight;
    if (below >= bytes / 2) return slope;
  }
  return kUnknown;
}

// Of the messages that found the link idle, by least squares. NaN where their sizes are alike.
double SlopeOfAlone(const std::vector<LinkSample>& step) {
  double count = 0, bytes = 0, seconds = 0, smallest = INFINITY, largest = 0;
  for (const LinkSample& one : step) {
    if (!one.alone) continue;
    ++count;
    bytes += one.bytes;
    seconds += one.seconds;
    smallest = std::min(smallest, one.bytes);
    largest = std::max(largest, one.bytes);
  }
  if (count < 2 || largest < kUnlike * smallest) return kUnknown;
  double products = 0, squares = 0;
  for (const LinkSample& one : step) {
    if (!one.alone) continue;
    products += (one.bytes - bytes / count) * (one.seconds - seconds / count);
    squares += (one.bytes - bytes / count) * (one.bytes - bytes / count);
  }
  return products / squares;
}

// What messages that found the link idle take beside their bytes: the least of the small ones, since what is not on
// record may have been before them on the link. NaN of none.
double LatencyOf(const std::vector<LinkSample>& step, double slope) {
  double smallest = INFINITY, least = INFINITY;
  for (const LinkSample& one : step) {
    if (one.alone) smallest = std::min(smallest, one.bytes);
  }
  for (const LinkSample& one : step) {
    if (one.alone && one.bytes <= kUnlike * smallest) least = std::min(least, one.seconds - slope * one.bytes);
  }
  return std::isfinite(least) ? least : kUnknown;
}

struct Typical {
  double value = kUnknown, error = kUnknown;
};
Typical MedianOf(std::vector<double> values) {
  if (values.empty()) return {};
  Typical typical;
  typical.value = Percentile(&values, 0.5);
  if (values.size() < kFewestSteps) return typical;
  std::vector<double> distances;
  for (const double value : values) distances.push_back(std::abs(value - typical.value));
  const double deviation = kDeviationOverMedian * Percentile(&distances, 0.5);
  typical.error = StudentT95(static_cast<int>(values.size()) - 1) * kMedianOverMean * deviation /
                  std::sqrt(static_cast<double>(values.size()));
  return typical;
}

}  // namespace

std::vector<LinkSample> QueueOf(std::vector<MessageRow> messages, const std::map<int, double>& ends) {
  std::sort(messages.begin(), messages.end(), [](const MessageRow& a, const MessageRow& b) { return a.came < b.came; });
  std::map<int, double> last;  // on record, of each collective
  for (const MessageRow& one : messages) last[one.seq] = one.came;
  // Whether a collective before `seq` may have sent more over this link at `time` than is on record.
  const auto is_unknown = [&](int seq, double time) {
    return std::any_of(last.begin(), last.lower_bound(seq), [&](const auto& earlier) {
      const auto end = ends.find(earlier.first);
      return end != ends.end() && earlier.second < time && time < end->second;
    });
  };
  std::vector<LinkSample> samples;
  double before = 0;
  for (const MessageRow& one : messages) {
    const bool alone = one.sent > before;
    const double begin = std::max(one.sent, before);
    if (one.sent > 0 && one.ready <= begin && one.bytes > 0 && !(alone && is_unknown(one.seq, begin))) {
      samples.push_back({one.step, alone, static_cast<double>(one.bytes), one.came - begin, begin});
    }
    before = one.came;
  }
  return samples;
}

void AddOthersBytes(std::map<HostPair, std::vector<LinkSample>>* samples) {
  // Of `others`, what lies within the time of `one`.
  const auto within = [](const LinkSample& one, const std::vector<LinkSample>& others) {
    double bytes = 0;
    for (const LinkSample& other : others) {
      const double shared =
          std::min(one.begin + one.seconds, other.begin + other.seconds) - std::max(one.begin, other.begin);
      if (shared > 0 && other.seconds > 0) bytes += other.bytes * std::min(1.0, shared / other.seconds);
    }
    return bytes;
  };
  const std::map<HostPair, std::vector<LinkSample>> own = *samples;
  for (auto& [pair, of_pair] : *samples) {
    for (LinkSample& one : of_pair) {
      double leaving = 0, coming = 0;
      for (const auto& [other, of_other] : own) {
        if (other == pair) continue;
        if (other.first == pair.first) leaving += within(one, of_other);
        if (other.second == pair.second) coming += within(one, of_other);
      }
      one.bytes += std::min(leaving, coming);
    }
  }
}

std::optional<LinkFit> FitLink(const std::vector<LinkSample>& samples) {
  std::map<int64_t, std::vector<LinkSample>> by_step;
  for (const LinkSample& one : samples) by_step[one.step].push_back(one);
  std::vector<double> slopes;
  for (const auto& [step, of_step] : by_step) slopes.push_back(SlopeOfQueued(of_step));
  const auto unknown = [](double value) { return !(value > 0); };
  slopes.erase(std::remove_if(slopes.begin(), slopes.end(), unknown), slopes.end());
  if (slopes.empty()) {
    for (const auto& [step, of_step] : by_step) slopes.push_back(SlopeOfAlone(of_step));
    slopes.erase(std::remove_if(slopes.begin(), slopes.end(), unknown), slopes.end());
  }
  const Typical slope = MedianOf(std::move(slopes));
  if (std::isnan(slope.value)) return std::nullopt;
  std::vector<double> latencies;
  for (const auto& [step, of_step] : by_step) {
    const double latency = LatencyOf(of_step, slope.value);
    if (!std::isnan(latency)) latencies.push_back(std::max(0.0, latency));
  }
  const Typical latency = MedianOf(std::move(latencies));
  LinkFit fit;
  fit.latency_s = latency.value;
  fit.latency_error_s = latency.error;
  fit.bandwidth = 1 / slope.value;
  fit.bandwidth_error = slope.error / (slope.value * slope.value);
  return fit;
}

}  // namespace lockstep
