#include "worker/bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace lockstep {

double Quantile(std::vector<double> values, double fraction) {
  std::sort(values.begin(), values.end());
  const double place = fraction * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
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

Ratio RatioOf(const std::vector<double>& numerators, const std::vector<double>& denominators) {
  const std::size_t count = std::min(numerators.size(), denominators.size());
  double sum = 0, squares = 0;
  std::vector<double> logs(count);
  for (std::size_t i = 0; i < count; ++i) sum += logs[i] = std::log(numerators[i] / denominators[i]);
  const double mean = sum / static_cast<double>(count);
  for (const double log : logs) squares += (log - mean) * (log - mean);
  const double deviation = std::sqrt(squares / static_cast<double>(count - 1));
  const double half = StudentT95(static_cast<int>(count) - 1) * deviation / std::sqrt(static_cast<double>(count));
  return {std::exp(mean), std::exp(mean - half), std::exp(mean + half)};
}

}  // namespace lockstep
