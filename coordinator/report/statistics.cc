#include "coordinator/report/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace lockstep {

double Percentile(std::vector<double>* values, double p) {
  if (values->empty()) return 0;
  const double rank = std::ceil(p * static_cast<double>(values->size()));
  const auto at = values->begin() + static_cast<std::ptrdiff_t>(std::max(rank, 1.0)) - 1;
  std::nth_element(values->begin(), at, values->end());
  return *at;
}

LineFit FitLine(const std::vector<double>& x, const std::vector<double>& y) {
  LineFit fit;
  const auto n = static_cast<double>(x.size());
  double mean_x = 0, mean_y = 0, xx = 0, xy = 0, residual = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    mean_x += x[i] / n;
    mean_y += y[i] / n;
  }
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    xy += (x[i] - mean_x) * (y[i] - mean_y);
  }
  if (x.size() < 3 || xx <= 1e-12 * mean_x * mean_x * n) return fit;
  fit.points = static_cast<int>(x.size());
  fit.slope = xy / xx;
  fit.intercept = mean_y - fit.slope * mean_x;
  for (size_t i = 0; i < x.size(); ++i) residual += std::pow(y[i] - fit.intercept - fit.slope * x[i], 2);
  const double sigma = std::sqrt(residual / (n - 2));
  fit.slope_error = 1.96 * sigma / std::sqrt(xx);
  fit.intercept_error = 1.96 * sigma * std::sqrt(1 / n + mean_x * mean_x / xx);
  return fit;
}

}  // namespace lockstep
