#pragma once

#include <cstddef>
#include <vector>

namespace lockstep {

// Levels of a series with noise. Pure.

struct Range {
  size_t begin = 0, end = 0;
  size_t size() const { return end - begin; }
};

// The mean of the two in the middle; of an even number of ranks that take turns no one is late on average.
double MiddleOf(std::vector<double> values);

// The ranges in which the level of `values` is above 0, in order. Over medians of blocks of values, where the level
// changes is found by dividing them so that the squares that are left are least, at a price for each change (Jackson et
// al. 2005); the noise is taken from neighbours' differences (von Neumann 1941) but for the larger half, so that no
// change of the level disturbs it, and is at least `least_noise`. A level is above 0 if it is above its mean's noise.
std::vector<Range> RangesAbove(const std::vector<double>& values, double least_noise);

}  // namespace lockstep
