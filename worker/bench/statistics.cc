#include "worker/bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "common/base/statistics.h"

namespace lockstep {

double Quantile(std::vector<double> values, double fraction) {
  std::sort(values.begin(), values.end());
  const double place = fraction * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
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
