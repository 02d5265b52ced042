#include "common/base/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace lockstep {

double Percentile(std::vector<double>* values, double p) {
  if (values->empty()) return 0;
  const double rank = std::ceil(p * static_cast<double>(values->size()));
  const auto at = values->begin() + static_cast<std::ptrdiff_t>(std::max(rank, 1.0)) - 1;
  std::nth_element(values->begin(), at, values->end());
  return *at;
}

double Median(std::vector<double> values) { return Percentile(&values, 0.5); }

std::vector<double> BinMeans(const std::vector<double>& values, size_t most) {
  const size_t bins = std::min(most, values.size());
  std::vector<double> means(bins, 0);
  for (size_t bin = 0; bin < bins; ++bin) {
    const size_t begin = bin * values.size() / bins, end = (bin + 1) * values.size() / bins;
    for (size_t i = begin; i < end; ++i) means[bin] += values[i] / static_cast<double>(end - begin);
  }
  return means;
}

Mean MeanOf(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  if (values.empty()) return {std::numeric_limits<double>::quiet_NaN(), 0};
  double mean = 0, squares = 0;
  for (const double value : values) mean += value / n;
  for (const double value : values) squares += (value - mean) * (value - mean);
  if (values.size() == 1) return {mean, 0};
  return {mean, StudentT95(static_cast<int>(values.size()) - 1) * std::sqrt(squares / (n - 1) / n)};
}

double StudentT95(int degrees_of_freedom) {
  // Tables of the t distribution, 0.975 quantile.
  constexpr double kTable[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                               2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
                               2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
  constexpr int kRows = sizeof(kTable) / sizeof(kTable[0]);
  if (degrees_of_freedom <= kRows) return kTable[std::max(1, degrees_of_freedom) - 1];
  // Cornish and Fisher's expansion about the normal's 1.95996, right to three digits from here on.
  return 1.95996 + 2.3722 / degrees_of_freedom + 2.8225 / degrees_of_freedom / degrees_of_freedom;
}

}  // namespace lockstep
