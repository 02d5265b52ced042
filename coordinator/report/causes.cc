#include "coordinator/report/causes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/statistics.h"

namespace lockstep {
namespace {

// How fast a run computes when nothing slows it down: as in this share of its bins, or faster.
constexpr size_t kComputeBins = 100, kInARow = 5;
constexpr double kAlwaysOne = 0.9;  // of what the last are late: one rank with more of it is no other one each time
constexpr size_t kAround = 20;      // steps, whose lateness is one
constexpr double kFastShare = 0.2;
constexpr size_t kEnoughOthers = 20;  // steps, to compare with
constexpr double kUsual = 0.25;       // of steps: what nothing holds up is as in this share of them

// Calls `row` with the ends of rows of about so many of `count`.
template <typename Row>
void ForRows(size_t count, size_t in_a_row, Row row) {
  const size_t rows = std::max<size_t>(1, count / in_a_row);
  for (size_t i = 0; i < rows; ++i) row(i * count / rows, (i + 1) * count / rows);
}

size_t PlaceOfLargest(const std::vector<double>& values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

// The largest and the one after it; of one value, that twice.
std::array<double, 2> TopTwo(const std::vector<double>& values) {
  std::array<double, 2> top = {values[0], -INFINITY};
  for (size_t i = 1; i < values.size(); ++i) {
    if (values[i] > top[0]) {
      top = {values[i], top[0]};
    } else {
      top[1] = std::max(top[1], values[i]);
    }
  }
  if (values.size() == 1) top[1] = top[0];
  return top;
}

// Hosts on which ranks were, by rank.
using HostsByRank = std::map<int, std::set<std::string>>;
// Those of the ranks that `finding` names, each once.
void AddHosts(const HostsByRank& hosts, Finding* finding) {
  std::set<std::string> named;
  for (const int rank : finding->ranks()) {
    const auto of_rank = hosts.find(rank);
    if (of_rank == hosts.end()) continue;
    for (const std::string& host : of_rank->second) {
      if (named.insert(host).second) finding->add_hosts(host);
    }
  }
}

// What a rank is late for in one of a step's meetings, by rank and step.
using LateFor = std::map<int, const std::vector<double>*>;

// Takes from `own`, of each rank, by what these are late in each step: none gets earlier than the first of the
// others, since without being late it has nothing to make up for; where something holds them up, than they usually are.
void Hasten(const LateFor& late, std::vector<double> ModelStep::*own, std::vector<ModelStep>* model) {
  const auto late_s = [&](const ModelStep& step, size_t i, size_t s) {
    const auto one = late.find(step.times->ranks[i].rank);
    return one == late.end() ? 0 : (*one->second)[s];
  };
  std::vector<double> of_others;
  for (size_t s = 0; s < model->size(); ++s) {
    const ModelStep& step = (*model)[s];
    double least = INFINITY;
    for (size_t i = 0; i < (step.*own).size(); ++i) {
      if (late_s(step, i, s) <= 0) least = std::min(least, (step.*own)[i]);
    }
    of_others.push_back(least);
  }
  std::vector<double> sorted = of_others;
  const double usual = Percentile(&sorted, kUsual);
  for (size_t s = 0; s < model->size(); ++s) {
    ModelStep& step = (*model)[s];
    for (size_t i = 0; i < (step.*own).size(); ++i) {
      double& value = (step.*own)[i];
      const double by = late_s(step, i, s);
      if (by > 0) value = std::max(value - by, std::min({value, of_others[s], usual}));
    }
  }
}

// What a step of `before` seconds saves as it is now. Ranks that wait for their data are held up by them: where the
// step gets shorter they wait that much longer.
double SavingOf(double before, ModelStep* step) {
  const double saving = before - step->seconds();
  for (size_t i = 0; i < step->own.size(); ++i) {
    const double wait = step->data_wait[i];
    if (step->times->ranks[i].had_data || wait < kNoticeableInput * before) continue;
    const double more = std::max(saving, -wait);
    for (std::vector<double>* values : {&step->data_wait, &step->work, &step->own}) (*values)[i] += more;
  }
  return before - step->seconds();
}

// By step: what the last is beyond the median of the others, typically of the steps around it.
std::vector<double> TypicallyLate(const std::vector<ModelStep>& model, std::vector<double> ModelStep::*own) {
  std::vector<double> late;
  for (const ModelStep& step : model) {
    std::vector<double> others = step.*own;
    const auto last = std::max_element(others.begin(), others.end());
    const double of_last = *last;
    others.erase(last);
    late.push_back(others.empty() ? 0 : of_last - Median(std::move(others)));
  }
  ForRows(late.size(), kAround, [&](size_t begin, size_t end) {
    const auto first = late.begin() + static_cast<std::ptrdiff_t>(begin),
               last = late.begin() + static_cast<std::ptrdiff_t>(end);
    std::fill(first, last, Median({first, last}));
  });
  return late;
}

// By how much the largest of `values` can be brought forward, of `late`, before another is it.
double Forward(const std::vector<double>& values, double late) {
  const auto [last, before] = TopTwo(values);
  return std::min(late, last - before);
}

// By launch: its ranks, as far as they are recorded.
std::map<int, size_t> WorldsOf(const std::vector<StepTimes>& steps) {
  std::map<int, size_t> worlds;
  for (const StepTimes& step : steps) {
    size_t& world = worlds[step.incarnation];
    world = std::max(world, step.ranks.size());
  }
  return worlds;
}

// Of the steps of launches with as many ranks, in order: what the rank that computes fastest takes, since what slows
// all of them down slows it down, too, and no late rank counts. Of each rank the median of some steps in a
// row, since single ones may be slow for anything.
using ByWorld = std::map<size_t, std::vector<double>>;
ByWorld FastestComputing(const std::vector<StepTimes>& steps) {
  const std::map<int, size_t> worlds = WorldsOf(steps);
  std::map<size_t, std::vector<const StepTimes*>> by_world;
  for (const StepTimes& step : steps) {
    if (!step.ranks.empty()) by_world[worlds.at(step.incarnation)].push_back(&step);
  }
  ByWorld fastest;
  for (const auto& [world, of_world] : by_world) {
    std::vector<double>& values = fastest[world];
    ForRows(of_world.size(), kInARow, [&, &all = of_world](size_t begin, size_t end) {
      std::map<int, std::vector<double>> by_rank;
      for (size_t s = begin; s < end; ++s) {
        for (const RankTimes& rank : all[s]->ranks) {
          by_rank[rank.rank].push_back(rank.compute() / static_cast<double>(all[s]->count));
        }
      }
      double least = INFINITY;
      for (auto& [rank, times] : by_rank) least = std::min(least, Median(std::move(times)));
      values.resize(end, least);
    });
  }
  return fastest;
}

// What these are late for in computing.
void TakeFromComputing(const std::vector<LateRank>& late, std::vector<StepTimes>* steps) {
  for (const LateRank& one : late) {
    const Part part = one.part();
    if (part != kForward && part != kBackward && part != kOptimizer) continue;
    size_t s = 0;  // of the model
    for (StepTimes& step : *steps) {
      if (step.ranks.empty()) continue;
      for (RankTimes& rank : step.ranks) {
        if (rank.rank == one.rank) rank.parts[part] -= one.late_s[s] + one.update_late_s[s];
      }
      ++s;
    }
  }
}

}  // namespace

double Cause::noticeable() const {
  if (finding.cause() == kInputBound) return kNoticeableInput;
  return finding.persistence() == kPersistent ? kNoticeableLate : kNoticeable;
}

double Cause::total() const { return std::accumulate(saving.begin(), saving.end(), 0.0); }

void Cause::Add(const Cause& more) {
  std::transform(saving.begin(), saving.end(), more.saving.begin(), saving.begin(), std::plus<>());
}

Cause TakeLateRanks(const std::vector<LateRank>& group, std::vector<ModelStep>* model) {
  Cause cause;
  std::set<int> parts;
  std::map<int, int> part_of;
  LateFor late, late_in_update;
  for (const LateRank& rank : group) {
    parts.insert(rank.part());
    part_of[rank.rank] = rank.part();
    late[rank.rank] = &rank.late_s;
    late_in_update[rank.rank] = &rank.update_late_s;
  }
  const bool input = parts == std::set<int>{kDataWait};
  std::vector<double> before;
  for (const ModelStep& step : *model) before.push_back(step.seconds());
  Hasten(late, &ModelStep::own, model);
  Hasten(late_in_update, &ModelStep::update, model);
  HostsByRank hosts;  // where it was late
  double steps = 0;
  for (size_t s = 0; s < model->size(); ++s) {
    ModelStep& step = (*model)[s];
    const std::vector<RankTimes>& ranks = step.times->ranks;
    bool here = false;
    for (size_t i = 0; i < ranks.size(); ++i) {
      const auto rank = late.find(ranks[i].rank);
      if (rank == late.end()) continue;
      const double late_s = (*rank->second)[s];
      if (late_s <= 0 && (*late_in_update.at(ranks[i].rank))[s] <= 0) continue;
      here = true;
      if (ranks[i].host != nullptr) hosts[ranks[i].rank].insert(*ranks[i].host);
      step.work[i] = std::max(0.0, step.work[i] - late_s);
      if (part_of[ranks[i].rank] == kDataWait) step.data_wait[i] = std::max(0.0, step.data_wait[i] - late_s);
    }
    steps += here ? 1 : 0;
    cause.saving.push_back(SavingOf(before[s], &step));
  }
  cause.finding.set_cause(input ? kInputBound : kStragglerBound);
  for (const auto& [rank, of_rank] : late) cause.finding.add_ranks(rank);
  AddHosts(hosts, &cause.finding);
  std::string kind;
  for (const int part : parts) absl::StrAppend(&kind, kind.empty() ? "" : ", ", PartName(part));
  cause.finding.set_kind(kind);
  cause.finding.set_persistence(kPersistent);
  cause.finding.set_steps_share(steps / static_cast<double>(model->size()));
  return cause;
}

Cause TakeInput(std::vector<ModelStep>* model) {
  Cause cause;
  cause.finding.set_cause(kInputBound);
  std::map<int, double> waited;
  HostsByRank hosts;
  for (ModelStep& step : *model) {
    const double before = step.longest();
    for (size_t i = 0; i < step.own.size(); ++i) {
      const RankTimes& rank = step.times->ranks[i];
      waited[rank.rank] += step.data_wait[i];
      if (rank.host != nullptr) hosts[rank.rank].insert(*rank.host);
      step.work[i] -= step.data_wait[i];
      step.own[i] -= step.data_wait[i];
      step.data_wait[i] = 0;
    }
    cause.saving.push_back(std::max(0.0, before - step.longest()));
  }
  double most = 0;
  for (const auto& [rank, wait_s] : waited) most = std::max(most, wait_s);
  std::vector<int> ranks;
  for (const auto& [rank, wait_s] : waited) {
    if (wait_s >= most / 2) ranks.push_back(rank);
  }
  if (2 * ranks.size() > waited.size()) return cause;
  for (const int rank : ranks) cause.finding.add_ranks(rank);
  AddHosts(hosts, &cause.finding);
  return cause;
}

std::vector<LateRank> FindLastOnes(const std::vector<ModelStep>& model) {
  const std::vector<double> late = TypicallyLate(model, &ModelStep::own),
                            late_in_update = TypicallyLate(model, &ModelStep::update);
  std::map<int, LateRank> by_rank;
  const auto of = [&](const ModelStep& step, size_t place) -> LateRank& {
    LateRank& one = by_rank[step.times->ranks[place].rank];
    one.rank = step.times->ranks[place].rank;
    one.late_s.resize(model.size(), 0);
    one.update_late_s.resize(model.size(), 0);
    return one;
  };
  for (size_t s = 0; s < model.size(); ++s) {
    const ModelStep& step = model[s];
    const size_t last = PlaceOfLargest(step.ready()), last_update = PlaceOfLargest(step.update);
    LateRank& one = of(step, last);
    one.late_s[s] = Forward(step.ready(), late[s]);
    of(step, last_update).update_late_s[s] = Forward(step.update, late_in_update[s]);
    for (int part = 0; part < kParts; ++part) {
      double others = 0;
      for (const Parts& parts : step.parts) others += parts[part];
      const auto ranks = static_cast<double>(step.parts.size());
      if (ranks > 1) one.by_part[part] += (ranks * step.parts[last][part] - others) / (ranks - 1);
    }
  }
  std::vector<LateRank> last_ones;
  double all = 0, most = 0;
  for (auto& [rank, one] : by_rank) {
    all += one.total();
    most = std::max(most, one.total());
    last_ones.push_back(std::move(one));
  }
  if (most > kAlwaysOne * all) last_ones.clear();
  return last_ones;
}

Cause TakeLastOnes(const std::vector<LateRank>& last_ones, std::vector<ModelStep>* model) {
  Cause cause = TakeLateRanks(last_ones, model);
  cause.finding.Clear();
  cause.finding.set_cause(kStragglerBound);
  cause.finding.set_persistence(kRotating);
  return cause;
}

Cause TakeCommunication(std::vector<ModelStep>* model) {
  Cause cause;
  cause.finding.set_cause(kCommunicationBound);
  for (ModelStep& step : *model) {
    const double before = step.seconds();
    step.transfer = 0;
    cause.saving.push_back(SavingOf(before, &step));
  }
  return cause;
}

std::vector<double> FindSlowerComputing(std::vector<StepTimes> steps, const std::vector<StepTimes>& others,
                                        const std::vector<LateRank>& late) {
  TakeFromComputing(late, &steps);
  const std::map<int, size_t> worlds = WorldsOf(steps);
  ByWorld own = FastestComputing(steps), apart = FastestComputing(others);
  std::map<size_t, double> fast_s;
  for (const auto& [world, values] : own) {
    const bool compares = apart[world].size() >= kEnoughOthers;
    std::vector<double> bins = BinMeans(values, kComputeBins), others_bins = BinMeans(apart[world], kComputeBins);
    fast_s[world] = Percentile(&bins, kFastShare);
    if (compares) fast_s[world] = std::min(fast_s[world], Percentile(&others_bins, 0.5));
  }
  std::map<size_t, size_t> place;
  std::vector<double> slower_s;
  for (const StepTimes& step : steps) {
    if (step.ranks.empty()) continue;
    const size_t world = worlds.at(step.incarnation);
    slower_s.push_back((own[world][place[world]++] - fast_s[world]) * static_cast<double>(step.count));
  }
  return slower_s;
}

Cause TakeSlowerComputing(const std::vector<double>& slower_s, std::vector<ModelStep>* model) {
  Cause cause;
  cause.finding.set_cause(kComputeBound);
  cause.finding.set_kind("slower");
  for (size_t s = 0; s < model->size(); ++s) {
    ModelStep& step = (*model)[s];
    const double before = step.seconds();
    for (size_t i = 0; i < step.own.size(); ++i) {
      step.work[i] -= slower_s[s];
      step.own[i] -= slower_s[s];
    }
    cause.saving.push_back(SavingOf(before, &step));
  }
  return cause;
}

}  // namespace lockstep
