#pragma once

#include <cstddef>
#include <vector>

namespace lockstep {

// The smallest value that at least the share `p` of all values do not exceed (nearest rank); 0 of none. Reorders.
double Percentile(std::vector<double>* values, double p);
double Median(std::vector<double> values);  // Percentile 0.5: of two in the middle the smaller

// In order, in at most so many bins of equally many, their means.
std::vector<double> BinMeans(const std::vector<double>& values, size_t most);

// The mean, and half of its 95% interval by Student's t; that of one value alone is not known and 0. NaN of none.
struct Mean {
  double value = 0, half = 0;
};
Mean MeanOf(const std::vector<double>& values);

// Student's t for a two-sided interval of 95%.
double StudentT95(int degrees_of_freedom);

}  // namespace lockstep
