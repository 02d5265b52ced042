#include "coordinator/report/late_ranks.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "common/base/statistics.h"

namespace lockstep {
namespace {

// Stretches of at least so many steps, where there are so many, and at most so many stretches.
constexpr size_t kStepsOfStretch = 30, kStretches = 50;
// A rank is late in a stretch if in so many of its steps it is late by more than half of what is typical for it: of two
// ranks that take turns by chance, one has 23 of 30 turns in one of 200 stretches.
constexpr double kOften = 0.75;
// Two ranks are late alike if they share so much of the later one's lateness.
constexpr double kAlike = 0.5;

// The steps [begin, end) of a model, and the ranks that are late in them.
class Stretch {
 public:
  Stretch(const std::vector<ModelStep>& model, size_t begin, size_t end) : model_(model), begin_(begin), end_(end) {
    std::map<int, std::vector<double>> over;  // by rank, where it is recorded: its work over that of half of the ranks
    for (size_t s = begin; s < end; ++s) {
      const double half = Median(model[s].work);
      for (size_t i = 0; i < model[s].work.size(); ++i) over[RankAt(s, i)].push_back(model[s].work[i] - half);
    }
    for (auto& [rank, late] : over) {
      late.resize(end - begin, 0);
      const double typical = Median(late);
      const auto often = std::count_if(late.begin(), late.end(), [&](double s) { return s > typical / 2; });
      if (typical > 0 && static_cast<double>(often) >= kOften * static_cast<double>(late.size())) late_.insert(rank);
    }
  }

  void AddTo(std::map<int, LateRank>* ranks) const {
    for (const int rank : late_) {
      LateRank& late = (*ranks)[rank];
      late.rank = rank;
      late.late_s.resize(model_.size(), 0);
      std::vector<double> against_others;
      for (size_t s = begin_; s < end_; ++s) {
        for (size_t i = 0; i < model_[s].work.size(); ++i) {
          if (RankAt(s, i) == rank) AddStep(s, i, &late, &against_others);
        }
      }
      const double typical = std::max(0.0, Median(std::move(against_others)));
      std::fill(late.late_s.begin() + static_cast<std::ptrdiff_t>(begin_),
                late.late_s.begin() + static_cast<std::ptrdiff_t>(end_), typical);
    }
  }

 private:
  int RankAt(size_t step, size_t i) const { return model_[step].times->ranks[i].rank; }

  // The rank at place `own` of step `s`, against those that are not late.
  void AddStep(size_t s, size_t own, LateRank* late, std::vector<double>* against_others) const {
    const std::vector<RankTimes>& ranks = model_[s].times->ranks;
    std::vector<double> works;
    std::array<double, kParts> sums = {};
    for (size_t i = 0; i < ranks.size(); ++i) {
      if (late_.count(ranks[i].rank) > 0) continue;
      works.push_back(model_[s].work[i]);
      for (int part = 0; part < kParts; ++part) sums[part] += ranks[i].parts[part];
    }
    if (works.empty()) return;
    for (int part = 0; part < kParts; ++part) {
      if (part == kCommExposed) continue;  // what it waits does not count
      late->by_part[part] += ranks[own].parts[part] - sums[part] / static_cast<double>(works.size());
    }
    against_others->push_back(model_[s].work[own] - Median(std::move(works)));
  }

  const std::vector<ModelStep>& model_;
  const size_t begin_, end_;
  std::set<int> late_;
};

double TotalOf(const LateRank& rank) { return std::accumulate(rank.late_s.begin(), rank.late_s.end(), 0.0); }

bool AreAlike(const LateRank& later, const LateRank& other) {
  double shared = 0;
  for (size_t s = 0; s < later.late_s.size(); ++s) shared += std::min(later.late_s[s], other.late_s[s]);
  return shared >= kAlike * TotalOf(later);
}

}  // namespace

std::vector<LateGroup> FindLateRanks(const std::vector<ModelStep>& model) {
  const size_t stretches = std::max<size_t>(1, std::min(kStretches, model.size() / kStepsOfStretch));
  std::map<int, LateRank> by_rank;
  for (size_t i = 0; i < stretches; ++i) {
    Stretch(model, i * model.size() / stretches, (i + 1) * model.size() / stretches).AddTo(&by_rank);
  }
  std::vector<LateRank> ranks;
  for (auto& [rank, late] : by_rank) {
    if (TotalOf(late) > 0) ranks.push_back(std::move(late));
  }
  std::stable_sort(ranks.begin(), ranks.end(),
                   [](const LateRank& a, const LateRank& b) { return TotalOf(a) > TotalOf(b); });
  std::vector<LateGroup> groups;
  for (LateRank& rank : ranks) {
    const auto group =
        std::find_if(groups.begin(), groups.end(), [&](const LateGroup& one) { return AreAlike(one.front(), rank); });
    if (group != groups.end()) {
      group->push_back(std::move(rank));
    } else {
      groups.push_back({std::move(rank)});
    }
  }
  return groups;
}

}  // namespace lockstep
