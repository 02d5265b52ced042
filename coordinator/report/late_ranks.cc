#include "coordinator/report/late_ranks.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "common/base/statistics.h"
#include "coordinator/report/levels.h"

namespace lockstep {
namespace {

// A single step is late if it is beyond the others' median by so many times their spread, as the standard deviation of
// normal noise; and a rank has more late steps than others have if its count is so many standard errors above theirs,
// or fewer, of a range that is half of all steps or more, since no place is chosen there.
constexpr double kOdd = 6, kMore = 4, kMoreInHalf = 3;
constexpr double kMadOfNormal = 0.6745;
// Late steps in a row may be one accident, so they count as so many at most. Rows that are chance are shorter, or have
// steps that are not late; those that are none are so much of all steps.
constexpr size_t kMostOfARow = 8, kFewestOfARow = 5;
constexpr double kNearlyAll = 0.8, kGoodPart = 0.2;
// Of what is typical, in a range that has late steps now and then: the other steps' lateness is less.
constexpr double kHardly = 0.2;
// Noise is at least this share of a step.
constexpr double kLeastNoise = 0.01;
constexpr int kRounds = 8;
constexpr double kOutside = 0.1;  // at either end, of what is typical
// Two ranks are late together if they share so much of the later one's lateness.
constexpr double kTogether = 0.5;

// The mean but for what stands out at either end; of a rank that others hold up in a half of the steps it is both.
double TypicalOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto out = static_cast<std::ptrdiff_t>(kOutside * static_cast<double>(values.size()));
  const double sum = std::accumulate(values.begin() + out, values.end() - out, 0.0);
  return sum / static_cast<double>(values.size() - 2 * static_cast<size_t>(out));
}

std::optional<size_t> PlaceOf(int rank, const ModelStep& step) {
  for (size_t i = 0; i < step.times->ranks.size(); ++i) {
    if (step.times->ranks[i].rank == rank) return i;
  }
  return std::nullopt;
}

bool IsIn(size_t step, const std::vector<Range>& ranges) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [step](const Range& range) { return range.begin <= step && step < range.end; });
}

// What single steps do not reach by chance.
double OddBeyond(const std::vector<double>& late) {
  if (late.empty()) return INFINITY;
  const double middle = MiddleOf(late);
  std::vector<double> spread;
  for (const double value : late) spread.push_back(std::abs(value - middle));
  return middle + kOdd * MiddleOf(std::move(spread)) / kMadOfNormal;
}

// Whether a rank has more late steps than the `others` have, beyond so many standard errors.
bool IsMore(size_t own, std::vector<double> others, double errors) {
  if (own == 0 || others.empty()) return false;
  const auto count = static_cast<double>(own);
  const double usual = MiddleOf(std::move(others));
  return count - usual >= errors * std::sqrt(count + usual);
}

// Who is late in which steps.
class Lateness {
 public:
  explicit Lateness(const std::vector<ModelStep>& model) : model_(model) {
    for (const ModelStep& step : model) {
      step_s_ += step.seconds() / static_cast<double>(model.size() * step.times->count);
      for (const RankTimes& rank : step.times->ranks) {
        ranks_[rank.rank];
        much_later_[rank.rank].resize(model.size(), false);
      }
    }
    // A rank that is much later hides how late another one is: that is then seen against the rest.
    for (int round = 0; round < kRounds; ++round) {
      for (auto& [rank, one] : ranks_) {
        one.late = LatenessOf(rank);
        one.steps = RangesAbove(one.late, kLeastNoise * step_s_);
      }
      DropChances();
      AddOddSteps();
      const std::map<int, std::vector<bool>> before = much_later_;
      for (const auto& [rank, one] : ranks_) much_later_[rank] = MuchLater(one);
      if (much_later_ == before) break;
    }
  }

  std::vector<LateRank> Ranks() const {
    std::vector<LateRank> ranks;
    for (const auto& [rank, one] : ranks_) {
      LateRank late;
      late.rank = rank;
      late.late_s.resize(model_.size(), 0);
      for (const Range& range : one.steps) AddRange(one, range, &late);
      if (!one.steps.empty()) ranks.push_back(std::move(late));
    }
    return ranks;
  }

 private:
  struct Rank {
    std::vector<double> late;  // by step of the model, for each step in it
    std::vector<Range> found;  // where its level is above 0
    std::vector<Range> steps;  // in which it is late
  };

  // By step: of its work, what is beyond the median of the others', of those that are not much later themselves.
  std::vector<double> LatenessOf(int rank) const {
    std::vector<double> late;
    for (size_t s = 0; s < model_.size(); ++s) {
      late.push_back(0);
      const ModelStep& step = model_[s];
      const std::optional<size_t> own = PlaceOf(rank, step);
      if (!own.has_value() || step.work.size() < 2) continue;
      std::vector<double> others, all;
      for (size_t i = 0; i < step.work.size(); ++i) {
        if (i == *own) continue;
        all.push_back(step.work[i]);
        if (!much_later_.at(step.times->ranks[i].rank)[s]) others.push_back(step.work[i]);
      }
      late.back() = (step.work[*own] - MiddleOf(std::move(others.empty() ? all : others))) /
                    static_cast<double>(step.times->count);
    }
    return late;
  }

  // By step: whether it is, by more than a rank may be without its being noticed.
  std::vector<bool> MuchLater(const Rank& rank) const {
    std::vector<bool> much(model_.size(), false);
    for (const Range& range : rank.steps) {
      if (2 * HalfOf(rank, range) < kNoticeableLate * step_s_) continue;
      std::fill(much.begin() + static_cast<std::ptrdiff_t>(range.begin),
                much.begin() + static_cast<std::ptrdiff_t>(range.end), true);
    }
    return much;
  }

  // In how many steps of `range` it is later than that.
  static size_t CountOf(const Rank& rank, Range range, double late_s) {
    const auto begin = rank.late.begin();
    return static_cast<size_t>(std::count_if(begin + static_cast<std::ptrdiff_t>(range.begin),
                                             begin + static_cast<std::ptrdiff_t>(range.end),
                                             [late_s](double value) { return value > late_s; }));
  }

  // Half of what it is late, typically: steps in which it is later than that are late ones.
  static double HalfOf(const Rank& rank, Range range) {
    const auto begin = rank.late.begin();
    return MiddleOf(
               {begin + static_cast<std::ptrdiff_t>(range.begin), begin + static_cast<std::ptrdiff_t>(range.end)}) /
           2;
  }

  // A level may be that of some steps which happen to be late, as others are of ranks that are not found late there.
  bool IsMoreOftenLate(int rank, Range range) const {
    const Rank& own = ranks_.at(rank);
    const double half = HalfOf(own, range);
    const size_t count = CountOf(own, range, half);
    if (count == own.late.size()) return true;
    std::vector<double> others;
    for (const auto& [other, one] : ranks_) {
      if (other != rank && !IsIn((range.begin + range.end) / 2, one.found)) {
        others.push_back(static_cast<double>(CountOf(one, range, half)));
      }
    }
    return IsMore(count, std::move(others), 2 * range.size() >= own.late.size() ? kMoreInHalf : kMore);
  }

  // The range was found by blocks: to the very steps at which it begins and ends.
  static Range FitEnds(const Rank& rank, Range range) {
    const double half = HalfOf(rank, range);
    const auto is_late = [&](size_t step) { return rank.late[step] > half; };
    const auto is_free = [&](size_t step) { return !IsIn(step, rank.steps); };
    const bool begins = range.begin > 0 && is_free(range.begin - 1);
    const bool ends = range.end < rank.late.size() && is_free(range.end);
    while (begins && range.size() > 1 && !is_late(range.begin)) ++range.begin;
    while (ends && range.size() > 1 && !is_late(range.end - 1)) --range.end;
    while (begins && range.begin > 0 && is_late(range.begin - 1) && is_free(range.begin - 1)) --range.begin;
    while (ends && range.end < rank.late.size() && is_late(range.end) && is_free(range.end)) ++range.end;
    return range;
  }

  // Several rows, each too short by itself, that no other rank has: two or more, and a good part of all steps, since
  // each may be an accident.
  bool HasMoreRows(int rank) const {
    const auto late_in_rows = [](const Rank& one, size_t most) {
      size_t all = 0;
      for (const Range& row : one.found) {
        const size_t count = CountOf(one, row, HalfOf(one, row));
        const bool nearly_all = static_cast<double>(count) >= kNearlyAll * static_cast<double>(row.size());
        if (count >= kFewestOfARow && nearly_all) all += std::min(count, most);
      }
      return all;
    };
    const Rank& own = ranks_.at(rank);
    std::vector<double> others;
    for (const auto& [other, one] : ranks_) {
      if (other != rank) others.push_back(static_cast<double>(late_in_rows(one, kMostOfARow)));
    }
    return static_cast<double>(late_in_rows(own, SIZE_MAX)) >= kGoodPart * static_cast<double>(own.late.size()) &&
           IsMore(late_in_rows(own, kMostOfARow), std::move(others), kMore);
  }

  // Ranges in a row are looked at together first: what comes on top of a lasting lateness makes ranges of its own.
  void DropChances() {
    for (auto& [rank, one] : ranks_) {
      for (Range& range : one.steps) range = FitEnds(one, range);
      one.found = one.steps;
    }
    for (auto& [rank, one] : ranks_) {
      if (HasMoreRows(rank)) continue;
      std::vector<Range> kept;
      for (size_t i = 0, end = 0; i < one.steps.size(); i = end) {
        for (end = i + 1; end < one.steps.size() && one.steps[end].begin == one.steps[end - 1].end;) ++end;
        const bool together = IsMoreOftenLate(rank, {one.steps[i].begin, one.steps[end - 1].end});
        std::copy_if(one.steps.begin() + static_cast<std::ptrdiff_t>(i),
                     one.steps.begin() + static_cast<std::ptrdiff_t>(end), std::back_inserter(kept),
                     [&, of = rank](const Range& range) { return together || IsMoreOftenLate(of, range); });
      }
      one.steps = std::move(kept);
    }
  }

  // What no rank reaches by chance, of the steps outside of those in which it is late.
  double OddBeyondOfAll() const {
    std::vector<double> all;
    for (size_t s = 0; s < model_.size(); ++s) {
      for (const RankTimes& times : model_[s].times->ranks) {
        const Rank& rank = ranks_.at(times.rank);
        if (!IsIn(s, rank.steps)) all.push_back(rank.late[s]);
      }
    }
    return OddBeyond(all);
  }

  // Steps in a row are one range.
  std::vector<Range> OddSteps(const Rank& rank, double least) const {
    std::vector<double> usual;
    for (size_t s = 0; s < rank.late.size(); ++s) {
      if (!IsIn(s, rank.steps)) usual.push_back(rank.late[s]);
    }
    const double beyond = std::max(least, OddBeyond(usual));
    std::vector<Range> odd;
    for (size_t s = 0; s < rank.late.size(); ++s) {
      if (rank.late[s] <= beyond || IsIn(s, rank.steps)) continue;
      if (!odd.empty() && odd.back().end == s) {
        odd.back().end = s + 1;
      } else {
        odd.push_back({s, s + 1});
      }
    }
    return odd;
  }

  static size_t CountOf(const std::vector<Range>& rows) {
    size_t count = 0;
    for (const Range& row : rows) count += std::min(row.size(), kMostOfARow);
    return count;
  }

  // Of ranks that have more of them than ranks have.
  void AddOddSteps() {
    const double least = OddBeyondOfAll();
    std::map<int, std::vector<Range>> odd;
    for (const auto& [rank, one] : ranks_) odd[rank] = OddSteps(one, least);
    for (const auto& [rank, own] : odd) {
      std::vector<double> others;
      for (const auto& [other, ranges] : odd) {
        if (other != rank) others.push_back(static_cast<double>(CountOf(ranges)));
      }
      if (own.empty() || !IsMore(CountOf(own), std::move(others), kMore)) continue;
      std::vector<Range>& steps = ranks_[rank].steps;
      steps.insert(steps.end(), own.begin(), own.end());
    }
  }

  // Of a range the steps in which it is late: all, but where it is so now and then, and else hardly.
  static std::vector<size_t> LateStepsOf(const Rank& rank, Range range) {
    const double hardly = kHardly * 2 * HalfOf(rank, range);
    const size_t count = CountOf(rank, range, hardly);
    const bool nearly_all = static_cast<double>(count) >= kNearlyAll * static_cast<double>(range.size());
    std::vector<size_t> steps;
    for (size_t s = range.begin; s < range.end; ++s) {
      if (nearly_all || rank.late[s] > hardly) steps.push_back(s);
    }
    return steps;
  }

  void AddRange(const Rank& rank, const Range& range, LateRank* late) const {
    const std::vector<size_t> steps = LateStepsOf(rank, range);
    std::vector<double> against_others;
    for (const size_t s : steps) {
      const std::vector<RankTimes>& ranks = model_[s].times->ranks;
      const std::optional<size_t> own = PlaceOf(late->rank, model_[s]);
      std::vector<double> works;
      Parts sums = {};
      for (size_t i = 0; i < ranks.size(); ++i) {
        if (IsIn(s, ranks_.at(ranks[i].rank).steps)) continue;
        works.push_back(model_[s].work[i]);
        for (int part = 0; part < kParts; ++part) sums[part] += model_[s].parts[i][part];
      }
      if (works.empty() || !own.has_value()) continue;
      for (int part = 0; part < kParts; ++part) {
        late->by_part[part] += model_[s].parts[*own][part] - sums[part] / static_cast<double>(works.size());
      }
      against_others.push_back((model_[s].work[*own] - MiddleOf(std::move(works))) /
                               static_cast<double>(model_[s].times->count));
    }
    if (against_others.empty()) return;
    const double typical = std::max(0.0, TypicalOf(std::move(against_others)));
    for (const size_t s : steps) late->late_s[s] = typical * static_cast<double>(model_[s].times->count);
  }

  const std::vector<ModelStep>& model_;
  double step_s_ = 0;  // mean
  std::map<int, Rank> ranks_;
  std::map<int, std::vector<bool>> much_later_;  // by step, as of the round before
};

// Of `model`, the updates for which others wait as if they were all the work.
std::vector<ModelStep> UpdatesOf(std::vector<ModelStep> model) {
  for (ModelStep& step : model) {
    for (size_t i = 0; i < step.update.size(); ++i) {
      step.parts[i] = {};
      step.parts[i][kOptimizer] = step.update[i];
    }
    step.work = step.update;
  }
  return model;
}

bool AnyWork(const std::vector<ModelStep>& model) {
  return std::any_of(model.begin(), model.end(), [](const ModelStep& step) {
    return std::any_of(step.work.begin(), step.work.end(), [](double work) { return work > 0; });
  });
}

double Sum(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

}  // namespace

double LateRank::total() const { return Sum(late_s) + Sum(update_late_s); }

Part LateRank::part() const {
  if (Sum(update_late_s) > Sum(late_s)) return kOptimizer;
  return static_cast<Part>(std::max_element(by_part.begin(), by_part.end()) - by_part.begin());
}

bool AreLateTogether(const LateRank& later, const LateRank& other) {
  double shared = 0;  // in whichever meeting: either makes what follows late
  for (size_t s = 0; s < later.late_s.size(); ++s) {
    shared += std::min(later.late_s[s] + later.update_late_s[s], other.late_s[s] + other.update_late_s[s]);
  }
  return shared >= kTogether * later.total();
}

std::vector<LateRank> FindLateRanks(const std::vector<ModelStep>& model) {
  std::map<int, LateRank> by_rank;
  for (LateRank& rank : Lateness(model).Ranks()) by_rank[rank.rank] = std::move(rank);
  if (const std::vector<ModelStep> updates = UpdatesOf(model); AnyWork(updates)) {
    for (LateRank& rank : Lateness(updates).Ranks()) by_rank[rank.rank].update_late_s = std::move(rank.late_s);
  }
  std::vector<LateRank> ranks;
  for (auto& [number, rank] : by_rank) {
    rank.rank = number;
    rank.late_s.resize(model.size(), 0);
    rank.update_late_s.resize(model.size(), 0);
    if (rank.total() > 0) ranks.push_back(std::move(rank));
  }
  std::stable_sort(ranks.begin(), ranks.end(),
                   [](const LateRank& a, const LateRank& b) { return a.total() > b.total(); });
  return ranks;
}

}  // namespace lockstep
