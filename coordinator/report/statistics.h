#pragma once

#include <vector>

namespace lockstep {

// The smallest value that at least the share `p` of all values do not exceed; 0 of none. Reorders.
double Percentile(std::vector<double>* values, double p);

// y = intercept + slope x by least squares, with half of the 95% interval of each (normal approximation). `points` < 3,
// or all of one x: nothing is fitted.
struct LineFit {
  int points = 0;
  double intercept = 0, intercept_error = 0, slope = 0, slope_error = 0;
};
LineFit FitLine(const std::vector<double>& x, const std::vector<double>& y);

}  // namespace lockstep
