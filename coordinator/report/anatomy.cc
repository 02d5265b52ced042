#include "coordinator/report/anatomy.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/base/stable_random.h"
#include "common/base/statistics.h"
#include "coordinator/report/causes.h"
#include "coordinator/report/late_ranks.h"

namespace lockstep {
namespace {

constexpr int kResamplings = 400;
constexpr size_t kBlocks = 50;
constexpr uint64_t kResampleKey = 0x726573616d706c65;  // "resample"
// Of what a cause saves once others are gone: as much has it to save alone, or it hides behind them.
constexpr double kByItself = 0.8;

// What takes a cause out of the model, and says what that saved.
using Removal = std::function<Cause(std::vector<ModelStep>*)>;

// Late ranks one by one, the latest first; together with those that are late in the same steps where one alone saves
// too little, as of a slow host; those that are taken. `seconds`: of all steps.
std::vector<LateRank> TakeStragglers(double seconds, std::vector<ModelStep>* model, std::vector<Removal>* removals) {
  std::vector<LateRank> late = FindLateRanks(*model), group, taken;
  while (!late.empty()) {
    const auto next = std::find_if(late.begin(), late.end(), [&](const LateRank& rank) {
      return group.empty() || AreLateTogether(group.front(), rank);
    });
    if (next == late.end()) {  // the group as a whole saves too little
      group.clear();
      continue;
    }
    group.push_back(std::move(*next));
    late.erase(next);
    std::vector<ModelStep> without = *model;
    const Cause cause = TakeLateRanks(group, &without);
    if (cause.total() < cause.noticeable() * seconds) continue;
    removals->push_back([group](std::vector<ModelStep>* steps) { return TakeLateRanks(group, steps); });
    *model = std::move(without);
    taken.insert(taken.end(), group.begin(), group.end());
    group.clear();
  }
  return taken;
}

// Late ranks in `model`, and another one each time; the ranks that are late. `seconds`: of all steps.
std::vector<LateRank> AddStragglers(double seconds, std::vector<ModelStep> model, std::vector<Removal>* removals) {
  std::vector<LateRank> late = TakeStragglers(seconds, &model, removals);
  const std::vector<LateRank> last_ones = FindLastOnes(model);
  if (last_ones.empty()) return late;
  const Removal rotating = [last_ones](std::vector<ModelStep>* steps) { return TakeLastOnes(last_ones, steps); };
  // In a few steps, however late, it is an accident: half of them have to have one.
  const double steps = static_cast<double>(model.size());
  if (Median(rotating(&model).saving) < kNoticeable * seconds / steps) return late;
  removals->push_back(rotating);
  late.insert(late.end(), last_ones.begin(), last_ones.end());
  return late;
}

// What may be taken out of `model`, of `steps`. What is seen first, then what is inferred; of the rest of the waiting
// for data some may be a part of lateness. `seconds`: of all steps. `alone`: one rank.
std::vector<Removal> RemovalsOf(double seconds, bool alone, const std::vector<StepTimes>& steps,
                                const std::vector<StepTimes>& others, std::vector<ModelStep> model) {
  std::vector<Removal> removals;
  std::vector<ModelStep> without = model;
  const Cause input = TakeInput(&without);
  if (input.total() >= input.noticeable() * seconds) {
    removals.emplace_back(TakeInput);
    model = std::move(without);
  }
  std::vector<LateRank> late;
  if (!alone) {
    removals.emplace_back(TakeCommunication);
    late = AddStragglers(seconds, std::move(model), &removals);
  }
  const std::vector<double> slower_s = FindSlowerComputing(steps, others, late);
  removals.emplace_back([slower_s](std::vector<ModelStep>* all) { return TakeSlowerComputing(slower_s, all); });
  return removals;
}

// Two that are a cause only together.
Cause Joined(const Cause& one, Cause other) {
  std::set<int> ranks;
  std::set<std::string> hosts, kinds;
  for (const Cause* each : std::initializer_list<const Cause*>{&one, &other}) {
    ranks.insert(each->finding.ranks().begin(), each->finding.ranks().end());
    hosts.insert(each->finding.hosts().begin(), each->finding.hosts().end());
    if (each->finding.persistence() == kRotating) continue;
    kinds.insert(each->finding.cause() == kInputBound ? PartName(kDataWait) : each->finding.kind());
  }
  Finding& finding = other.finding;
  if (one.finding.cause() != kInputBound) finding.set_cause(kStragglerBound);
  if (finding.cause() == kStragglerBound) finding.set_kind(absl::StrJoin(kinds, ", "));
  finding.set_persistence(finding.cause() == kStragglerBound ? kPersistent : finding.persistence());
  finding.clear_ranks();
  finding.clear_hosts();
  for (const int rank : ranks) finding.add_ranks(rank);
  for (const std::string& host : hosts) finding.add_hosts(host);
  finding.set_steps_share(std::max(one.finding.steps_share(), finding.steps_share()));
  other.Add(one);
  return other;
}

// The one that saves most of `model`; with `without`, what is left then.
struct Choice {
  size_t place = 0;
  Cause cause;
  std::vector<ModelStep> without;
};
Choice Best(const std::vector<Removal>& removals, const std::vector<ModelStep>& model) {
  Choice best;
  for (size_t i = 0; i < removals.size(); ++i) {
    std::vector<ModelStep> left = model;
    Cause cause = removals[i](&left);
    if (i == 0 || cause.total() > best.cause.total()) best = {i, std::move(cause), std::move(left)};
  }
  return best;
}

// Whether `removal` saves less of `whole` than `saving`, since others hide it there.
bool IsHidden(const Removal& removal, double saving, std::vector<ModelStep> whole) {
  return saving > 0 && removal(&whole).total() < kByItself * saving;
}

// Of causes in the same steps one may hide another: what each saves depends on what is gone already. So they go one
// after the other, each time the one that saves most of what is left, or two together where the first alone saves too
// little and hides the other; `model` is then without those that are noticeable. `seconds`: of all steps.
std::vector<Cause> InOrder(double seconds, std::vector<Removal> removals, std::vector<ModelStep>* model) {
  const std::vector<ModelStep> whole = *model;
  std::vector<Cause> ordered;
  while (!removals.empty()) {
    Choice best = Best(removals, *model);
    const Removal removal = removals[best.place];
    removals.erase(removals.begin() + static_cast<std::ptrdiff_t>(best.place));
    const bool noticeable = best.cause.total() >= best.cause.noticeable() * seconds;
    if (!noticeable && !removals.empty()) {
      const Choice after = Best(removals, best.without);
      Removal& next = removals[after.place];
      if (IsHidden(next, after.cause.total(), *model)) {
        next = [removal, next](std::vector<ModelStep>* steps) {
          const Cause one = removal(steps);
          return Joined(one, next(steps));
        };
        continue;
      }
    }
    best.cause.finding.set_after_others(IsHidden(removal, best.cause.total(), whole));
    ordered.push_back(std::move(best.cause));
    if (noticeable) *model = std::move(best.without);
  }
  return ordered;
}

// To a cause of its kind on the same ranks, if there is one.
void AddTo(const Cause& more, std::vector<Cause>* causes) {
  const auto ranks = [](const Cause& one) {
    return std::vector<int>(one.finding.ranks().begin(), one.finding.ranks().end());
  };
  for (Cause& cause : *causes) {
    if (cause.finding.cause() != more.finding.cause() || ranks(cause) != ranks(more)) continue;
    return cause.Add(more);
  }
  causes->push_back(more);
}

// Neighbouring steps are alike, so whole blocks of them are drawn, with replacement.
class Resampling {
 public:
  explicit Resampling(size_t steps) : steps_(steps), blocks_(std::max<size_t>(1, std::min(kBlocks, steps))) {}

  // Sums over the blocks.
  std::vector<double> Sums(const std::vector<double>& values) const {
    std::vector<double> sums(blocks_, 0);
    for (size_t i = 0; i < values.size(); ++i) sums[i * blocks_ / steps_] += values[i];
    return sums;
  }
  // Draw `draw`: how often each block.
  std::vector<int> Draw(int draw) const {
    StableRandom random(Mix({kResampleKey, static_cast<uint64_t>(draw)}));
    std::vector<int> times(blocks_, 0);
    for (size_t i = 0; i < blocks_; ++i) ++times[random.Below(blocks_)];
    return times;
  }

 private:
  const size_t steps_, blocks_;
};

// Sets what the causes save with its interval, and how sure it is that each is the first. Leaves those that are
// noticeable; how sure it is that there is none.
double Weigh(double step_s, std::vector<Cause>* causes) {
  const Resampling resampling(causes->front().saving.size());
  const auto steps = static_cast<double>(causes->front().saving.size());
  std::vector<std::vector<double>> means(causes->size());
  std::vector<int> wins(causes->size(), 0);
  std::vector<std::vector<double>> sums;
  for (const Cause& cause : *causes) sums.push_back(resampling.Sums(cause.saving));
  int none = 0;
  for (int draw = 0; draw < kResamplings; ++draw) {
    const std::vector<int> times = resampling.Draw(draw);
    size_t best = 0;
    bool any = false;
    for (size_t c = 0; c < causes->size(); ++c) {
      means[c].push_back(std::inner_product(times.begin(), times.end(), sums[c].begin(), 0.0) / steps);
      const bool hidden = (*causes)[c].finding.after_others();
      if (!hidden && means[c].back() > means[best].back()) best = c;
      any = any || means[c].back() >= (*causes)[c].noticeable() * step_s;
    }
    ++wins[best];
    none += any ? 0 : 1;
  }
  std::vector<Cause> noticeable;
  for (size_t c = 0; c < causes->size(); ++c) {
    Finding& finding = (*causes)[c].finding;
    std::sort(means[c].begin(), means[c].end());
    finding.set_saving_s_per_step(MeanOf((*causes)[c].saving).value);
    finding.set_saving_low_s(means[c][kResamplings / 40]);
    finding.set_saving_high_s(means[c][kResamplings - 1 - kResamplings / 40]);
    finding.set_confidence(static_cast<double>(wins[c]) / kResamplings);
    if (finding.saving_s_per_step() < (*causes)[c].noticeable() * step_s) continue;
    noticeable.push_back(std::move((*causes)[c]));
  }
  *causes = std::move(noticeable);
  return static_cast<double>(none) / kResamplings;
}

void SetEfficiency(const std::vector<ModelStep>& model, ReportEfficiency* efficiency) {
  double mean = 0, most = 0, run = 0;
  for (const ModelStep& step : model) {
    double sum = 0, longest = 0, seconds = 0;
    for (const RankTimes& rank : step.times->ranks) {
      sum += rank.compute();
      longest = std::max(longest, rank.compute());
      seconds += rank.step();
    }
    const auto ranks = static_cast<double>(step.times->ranks.size());
    mean += sum / ranks;
    most += longest;
    run += seconds / ranks;
  }
  if (most <= 0 || run <= 0) return;
  efficiency->set_load_balance(mean / most);
  efficiency->set_communication(std::min(1.0, most / run));
  efficiency->set_parallel(efficiency->load_balance() * efficiency->communication());
}

std::vector<Anatomy::RankLateness> LatenessByRank(const std::vector<ModelStep>& model) {
  std::map<int, Anatomy::RankLateness> by_rank;
  for (const ModelStep& step : model) {
    const std::vector<double> ready = step.ready();
    const double last = step.longest();
    // When each would have come if it had waited for nobody's update but its own.
    std::vector<double> own = step.own;
    for (size_t i = 0; i < own.size(); ++i) own[i] += step.update[i];
    const double median = Median(own);
    const auto count = static_cast<double>(step.times->count);
    for (size_t i = 0; i < ready.size(); ++i) {
      Anatomy::RankLateness& lateness = by_rank[step.times->ranks[i].rank];
      lateness.rank = step.times->ranks[i].rank;
      ++lateness.steps;
      lateness.last += ready[i] >= last ? 1 : 0;
      lateness.late_s += (own[i] - median) / count;
      lateness.early_s.push_back((last - ready[i]) / count);
    }
  }
  std::vector<Anatomy::RankLateness> list;
  for (auto& [rank, lateness] : by_rank) {
    lateness.late_s /= static_cast<double>(lateness.steps);
    list.push_back(std::move(lateness));
  }
  return list;
}

}  // namespace

Anatomy Analyze(const std::vector<StepTimes>& steps, const std::vector<StepTimes>& others) {
  Anatomy anatomy;
  anatomy.verdict.set_cause(kComputeBound);
  std::vector<ModelStep> model = ModelOf(steps);
  if (model.empty()) return anatomy;
  SetEfficiency(model, &anatomy.efficiency);
  anatomy.lateness = LatenessByRank(model);
  double count = 0;
  for (const ModelStep& step : model) {
    count += static_cast<double>(step.times->count);
    anatomy.work_s += step.longest();
    anatomy.transfer_s += step.transfer;
  }
  const bool alone = anatomy.lateness.size() == 1;
  anatomy.work_s /= count;
  anatomy.transfer_s = alone ? 0 : anatomy.transfer_s / count;
  anatomy.step_s = anatomy.work_s + anatomy.transfer_s;

  const double seconds = anatomy.step_s * count;
  const std::vector<ModelStep> whole = model;
  std::vector<Cause> causes = InOrder(seconds, RemovalsOf(seconds, alone, steps, others, model), &model);
  // Of the waiting for data what is seen only now.
  Cause rest = TakeInput(&model);
  rest.finding.set_after_others(IsHidden(TakeInput, rest.total(), whole));
  AddTo(rest, &causes);
  for (Cause& cause : causes) {
    for (size_t i = 0; i < model.size(); ++i) cause.saving[i] /= static_cast<double>(model[i].times->count);
  }
  anatomy.verdict.set_confidence(Weigh(anatomy.step_s, &causes));
  for (const Cause& cause : causes) anatomy.causes.push_back(cause.finding);
  if (!anatomy.causes.empty()) anatomy.verdict = anatomy.causes.front();
  return anatomy;
}

}  // namespace lockstep
