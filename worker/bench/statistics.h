#pragma once

#include <vector>

namespace lockstep {

// The value below which `fraction` of `values` lie, interpolated between the two nearest. `values` is not empty.
double Quantile(std::vector<double> values, double fraction);

// What nccl-tests call bus bandwidth: what each rank's link carries, whatever their number, if nothing is sent in vain.
inline double BusBandwidth(double algbw, int world) { return algbw * 2 * (world - 1) / world; }

// A ratio and the interval that holds it with a probability of 95%.
struct Ratio {
  double mean = 0, low = 0, high = 0;
};
// The geometric mean of the pairs' ratios, with Student's t on their logarithms. At least two pairs of positive values.
Ratio RatioOf(const std::vector<double>& numerators, const std::vector<double>& denominators);

}  // namespace lockstep
