#include "coordinator/report/levels.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

namespace lockstep {
namespace {

// Medians of so many steps in a row are what is looked at, since single steps may be late for anything; of a short
// span of steps there are so many at least, of a long one at most. Of fewer no noise can be told.
constexpr size_t kSteps = 5, kFewestBlocks = 20, kMostBlocks = 1000, kFewForNoise = 6;
// In standard errors: for a level to have changed at any place, and to be above 0.
constexpr double kChanged = 5, kLate = 4;
// The larger ones of neighbours' differences, which changes of the level may be; what the squares of the others are of
// all, of normal noise.
constexpr double kChanges = 0.5, kSquaresLeft = 0.143;

// Levels of a series with noise.
class Levels {
 public:
  Levels(const std::vector<double>& values, double least_noise) {
    for (size_t i = 0; i < values.size(); ++i) {
      sums_.push_back(sums_.back() + values[i]);
      squares_.push_back(squares_.back() + values[i] * values[i]);
      differences_.push_back(differences_.back() + (i == 0 ? 0 : std::pow(values[i] - values[i - 1], 2)));
    }
    noise_ = std::max(least_noise, NoiseOf(values));
    least_ = *std::min_element(values.begin(), values.end());
    Divide();
  }

  // In order; those above 0, those in a row whose levels differ by less than their own unevenness as one. A series too
  // short to tell its noise by is late if all of it is.
  std::vector<Range> Late() const {
    std::vector<Range> late;
    const bool is_short = sums_.size() <= kFewForNoise;
    for (const Range& range : ranges_) {
      const bool above = Mean(range) > kLate * noise_ / std::sqrt(static_cast<double>(range.size()));
      if (!(is_short ? least_ > 0 : above)) continue;
      if (!late.empty() && late.back().end == range.begin && AreAlike(late.back(), range)) {
        late.back().end = range.end;
      } else {
        late.push_back(range);
      }
    }
    return late;
  }

 private:
  // By all differences of neighbours, or by the smaller ones, if those say less.
  static double NoiseOf(const std::vector<double>& values) {
    std::vector<double> squares;
    for (size_t i = 1; i < values.size(); ++i) squares.push_back(std::pow(values[i] - values[i - 1], 2));
    if (squares.empty()) return 0;
    std::sort(squares.begin(), squares.end());
    const auto mean_of = [&](size_t count) {
      return std::accumulate(squares.begin(), squares.begin() + static_cast<std::ptrdiff_t>(count), 0.0) /
             static_cast<double>(count);
    };
    const size_t smaller = squares.size() - static_cast<size_t>(kChanges * static_cast<double>(squares.size()));
    return std::sqrt(std::min(mean_of(squares.size()), mean_of(smaller) / kSquaresLeft) / 2);
  }

  double Mean(Range range) const { return (sums_[range.end] - sums_[range.begin]) / static_cast<double>(range.size()); }

  // Of two in a row.
  bool AreAlike(Range one, Range next) const {
    const double noise = std::sqrt((differences_[next.end] - differences_[one.begin + 1]) / 2 /
                                   static_cast<double>(next.end - one.begin - 1));
    const double change = std::abs(Mean(one) - Mean(next));
    return change <
           kChanged * noise * std::sqrt(1.0 / static_cast<double>(one.size()) + 1.0 / static_cast<double>(next.size()));
  }

  // Of the squares around the mean.
  double Squares(Range range) const {
    return squares_[range.end] - squares_[range.begin] - Mean(range) * (sums_[range.end] - sums_[range.begin]);
  }

  // Those with the least squares, if each costs what a change of the level has to be at least.
  void Divide() {
    const size_t count = sums_.size() - 1;
    const double price = std::pow(kChanged * noise_, 2);
    std::vector<double> least(count + 1, INFINITY);  // of the first so many
    std::vector<size_t> begin(count + 1, 0);         // of the last range of these
    least[0] = 0;
    for (size_t end = 1; end <= count; ++end) {
      for (size_t at = 0; at < end; ++at) {
        const double squares = least[at] + Squares({at, end}) + price;
        if (squares >= least[end]) continue;
        least[end] = squares;
        begin[end] = at;
      }
    }
    for (size_t end = count; end > 0; end = begin[end]) ranges_.insert(ranges_.begin(), {begin[end], end});
  }

  // Of the first so many.
  std::vector<double> sums_ = {0}, squares_ = {0}, differences_ = {0};
  double noise_ = 0, least_ = 0;
  std::vector<Range> ranges_;
};

}  // namespace

double MiddleOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

std::vector<Range> RangesAbove(const std::vector<double>& values, double least_noise) {
  const size_t length = std::max<size_t>(1, std::min(kSteps, values.size() / kFewestBlocks));
  const size_t blocks = std::min(kMostBlocks, values.size() / length);
  const auto begin_of = [&](size_t block) { return block * values.size() / blocks; };
  std::vector<double> medians;
  for (size_t block = 0; block < blocks; ++block) {
    const auto begin = values.begin();
    medians.push_back(MiddleOf({begin + static_cast<std::ptrdiff_t>(begin_of(block)),
                                begin + static_cast<std::ptrdiff_t>(begin_of(block + 1))}));
  }
  std::vector<Range> ranges = Levels(medians, least_noise).Late();
  for (Range& range : ranges) range = {begin_of(range.begin), begin_of(range.end)};
  return ranges;
}

}  // namespace lockstep
