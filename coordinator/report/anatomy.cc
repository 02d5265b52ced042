#include "coordinator/report/anatomy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/stable_random.h"
#include "common/base/statistics.h"
#include "coordinator/report/late_ranks.h"

namespace lockstep {
namespace {

constexpr int kResamplings = 400;
constexpr size_t kBlocks = 50;
constexpr uint64_t kResampleKey = 0x726573616d706c65;  // "resample"
// How fast a run computes when nothing slows it down: as in this share of its bins, or faster.
constexpr size_t kComputeBins = 100, kBlock = 5;
constexpr double kFastShare = 0.2;
constexpr size_t kEnoughOthers = 20;  // steps, to compare with

// A cause is noticeable if it costs this share of a step; less, of late ranks, which have been told from chance, and of
// waiting for data, which is seen as such.
constexpr double kNoticeable = 0.1, kNoticeableLate = 0.08, kNoticeableInput = 0.05;

// Of what a cause saves once others are gone: as much has it to save alone, or it hides behind them.
constexpr double kByItself = 0.8;

constexpr char kCompute[] = "compute-bound";
constexpr char kCommunication[] = "communication-bound";
constexpr char kInput[] = "input-bound";
constexpr char kStraggler[] = "straggler-bound";
constexpr char kPersistent[] = "persistent", kRotating[] = "rotating";

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

// A cause with what it costs in every step.
struct Candidate {
  Finding finding;
  std::vector<double> saving;  // by step
  // Of causes that hide behind each other: those that have to go before it for that. Unset: it saves that by itself.
  std::optional<int> place;

  double noticeable() const {
    if (finding.cause() == kInput) return kNoticeableInput;
    return finding.persistence() == kPersistent ? kNoticeableLate : kNoticeable;
  }
};

double TotalOf(const Candidate& cause) { return std::accumulate(cause.saving.begin(), cause.saving.end(), 0.0); }

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

// In which each of these is most late.
std::set<int> PartsOf(const std::vector<LateRank>& group) {
  std::set<int> parts;
  for (const LateRank& rank : group) {
    parts.insert(static_cast<int>(std::max_element(rank.by_part.begin(), rank.by_part.end()) - rank.by_part.begin()));
  }
  return parts;
}

// These ranks brought to where the others are, in `model` too.
Candidate TakeLateRanks(const std::vector<LateRank>& group, std::vector<ModelStep>* model) {
  Candidate cause;
  const std::set<int> parts = PartsOf(group);
  const bool input = parts == std::set<int>{kDataWait};
  const bool in_update = group.front().in_update;
  std::map<int, const LateRank*> late;
  for (const LateRank& rank : group) late[rank.rank] = &rank;
  HostsByRank hosts;  // where it was late
  double steps = 0;
  for (size_t s = 0; s < model->size(); ++s) {
    ModelStep& step = (*model)[s];
    const std::vector<RankTimes>& ranks = step.times->ranks;
    const double before = step.longest();
    std::vector<double>& ready = in_update ? step.update : step.ready;
    std::vector<double> others;
    for (size_t i = 0; i < ranks.size(); ++i) {
      if (late.count(ranks[i].rank) == 0) others.push_back(ready[i]);
    }
    const double others_ready = Median(std::move(others));
    bool here = false;
    for (size_t i = 0; i < ranks.size(); ++i) {
      const auto rank = late.find(ranks[i].rank);
      const double late_s = rank == late.end() ? 0 : rank->second->late_s[s];
      if (late_s <= 0) continue;
      here = true;
      if (ranks[i].host != nullptr) hosts[ranks[i].rank].insert(*ranks[i].host);
      // No earlier than the others: without being late it has nothing to make up for.
      ready[i] = std::max(ready[i] - late_s, std::min(ready[i], others_ready));
      if (!in_update) step.work[i] = std::max(0.0, step.work[i] - late_s);
      if (input) step.data_wait[i] = std::max(0.0, step.data_wait[i] - late_s);
    }
    steps += here ? 1 : 0;
    cause.saving.push_back(before - step.longest());
  }
  cause.finding.set_cause(input ? kInput : kStraggler);
  for (const auto& [rank, of_rank] : late) cause.finding.add_ranks(rank);
  AddHosts(hosts, &cause.finding);
  std::string kind;
  for (const int part : parts) absl::StrAppend(&kind, kind.empty() ? "" : ", ", PartName(part));
  cause.finding.set_kind(kind);
  cause.finding.set_persistence(kPersistent);
  cause.finding.set_steps_share(steps / static_cast<double>(model->size()));
  return cause;
}

// What takes a cause out of the model, and says what that saved.
using Removal = std::function<Candidate(std::vector<ModelStep>*)>;

// Late ranks one by one, the latest first; together with those that are late in the same steps where one alone saves
// too little, as of a slow host. `seconds`: of all steps.
void TakeStragglers(double seconds, std::vector<ModelStep>* model, std::vector<Removal>* removals) {
  std::vector<LateRank> late = FindLateRanks(*model), group;
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
    const Candidate cause = TakeLateRanks(group, &without);
    if (TotalOf(cause) < cause.noticeable() * seconds) continue;
    removals->push_back([group](std::vector<ModelStep>* steps) { return TakeLateRanks(group, steps); });
    *model = std::move(without);
    group.clear();
  }
}

// Two that are a cause only together.
Candidate Joined(const Candidate& one, Candidate other) {
  std::set<int> ranks;
  std::set<std::string> hosts, kinds;
  for (const Candidate* each : std::initializer_list<const Candidate*>{&one, &other}) {
    ranks.insert(each->finding.ranks().begin(), each->finding.ranks().end());
    hosts.insert(each->finding.hosts().begin(), each->finding.hosts().end());
    kinds.insert(each->finding.cause() == kInput ? PartName(kDataWait) : each->finding.kind());
  }
  Finding& finding = other.finding;
  if (one.finding.cause() != kInput) finding.set_cause(kStraggler);
  if (finding.cause() == kStraggler) finding.set_kind(absl::StrJoin(kinds, ", "));
  finding.set_persistence(finding.cause() == kStraggler ? kPersistent : finding.persistence());
  finding.clear_ranks();
  finding.clear_hosts();
  for (const int rank : ranks) finding.add_ranks(rank);
  for (const std::string& host : hosts) finding.add_hosts(host);
  finding.set_steps_share(std::max(one.finding.steps_share(), finding.steps_share()));
  std::transform(one.saving.begin(), one.saving.end(), other.saving.begin(), other.saving.begin(), std::plus<>());
  return other;
}

// The one that saves most of `model`; with `without`, what is left then.
struct Choice {
  size_t place = 0;
  Candidate cause;
  std::vector<ModelStep> without;
};
Choice Best(const std::vector<Removal>& removals, const std::vector<ModelStep>& model) {
  Choice best;
  for (size_t i = 0; i < removals.size(); ++i) {
    std::vector<ModelStep> left = model;
    Candidate cause = removals[i](&left);
    if (i == 0 || TotalOf(cause) > TotalOf(best.cause)) best = {i, std::move(cause), std::move(left)};
  }
  return best;
}

// Of causes in the same steps one may hide another: what each saves depends on what is gone already. So they go one
// after the other, each time the one that saves most of what is left, or two together where none alone saves enough;
// `model` is then without them. `seconds`: of all steps.
std::vector<Candidate> InOrder(double seconds, std::vector<Removal> removals, std::vector<ModelStep>* model) {
  const std::vector<ModelStep> whole = *model;
  std::vector<Candidate> ordered;
  while (!removals.empty()) {
    Choice best = Best(removals, *model);
    const Removal removal = removals[best.place];
    removals.erase(removals.begin() + static_cast<std::ptrdiff_t>(best.place));
    if (TotalOf(best.cause) < best.cause.noticeable() * seconds && !removals.empty()) {
      Removal& next = removals[Best(removals, best.without).place];
      next = [removal, next](std::vector<ModelStep>* steps) {
        const Candidate one = removal(steps);
        return Joined(one, next(steps));
      };
      continue;
    }
    std::vector<ModelStep> alone = whole;
    best.cause.finding.set_after_others(TotalOf(removal(&alone)) < kByItself * TotalOf(best.cause));
    best.cause.place = static_cast<int>(ordered.size());
    ordered.push_back(std::move(best.cause));
    *model = std::move(best.without);
  }
  return ordered;
}

// Another rank each time: the last of a step brought forward by what a last one is late, typically, against the median
// of the others; so that what is left is as uneven as ranks are without a fault.
Candidate RotatingStraggler(const std::vector<ModelStep>& model) {
  Candidate cause;
  cause.finding.set_cause(kStraggler);
  cause.finding.set_persistence(kRotating);
  std::vector<double> late;
  for (const ModelStep& step : model) {
    std::vector<double> others = step.ready;
    others.erase(std::max_element(others.begin(), others.end()));
    if (!others.empty()) late.push_back(step.last_ready() - Median(std::move(others)));
  }
  const double typical = Median(std::move(late));
  for (const ModelStep& step : model) {
    const auto [last, before] = TopTwo(step.ready);
    cause.saving.push_back(last - std::max(last - typical, before));
  }
  return cause;
}

// Waiting for data left out, in `model` too; of the ranks that wait, if they are half of all at most.
Candidate TakeInput(std::vector<ModelStep>* model) {
  Candidate cause;
  cause.finding.set_cause(kInput);
  std::map<int, double> waited;
  HostsByRank hosts;
  for (ModelStep& step : *model) {
    const double before = step.longest();
    for (size_t i = 0; i < step.ready.size(); ++i) {
      const RankTimes& rank = step.times->ranks[i];
      waited[rank.rank] += step.data_wait[i];
      if (rank.host != nullptr) hosts[rank.rank].insert(*rank.host);
      step.work[i] -= step.data_wait[i];
      step.ready[i] -= step.data_wait[i];
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

// To a cause of its kind on the same ranks, if there is one.
void AddTo(const Candidate& more, std::vector<Candidate>* causes) {
  const auto ranks = [](const Candidate& one) {
    return std::vector<int>(one.finding.ranks().begin(), one.finding.ranks().end());
  };
  for (Candidate& cause : *causes) {
    if (cause.finding.cause() != more.finding.cause() || ranks(cause) != ranks(more)) continue;
    std::transform(cause.saving.begin(), cause.saving.end(), more.saving.begin(), cause.saving.begin(), std::plus<>());
    return;
  }
  causes->push_back(more);
}

Candidate CommunicationOf(const std::vector<ModelStep>& model) {
  Candidate cause;
  cause.finding.set_cause(kCommunication);
  for (const ModelStep& step : model) cause.saving.push_back(step.transfer);
  return cause;
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
// all of them down slows it down, too, and no late rank counts; the median of a block of steps for each, since a single
// one may be slow for anything.
using ByWorld = std::map<size_t, std::vector<double>>;
ByWorld FastestComputing(const std::vector<StepTimes>& steps) {
  const std::map<int, size_t> worlds = WorldsOf(steps);
  ByWorld fastest;
  for (const StepTimes& step : steps) {
    double least = INFINITY;
    for (const RankTimes& rank : step.ranks) least = std::min(least, rank.parts[kForward] + rank.parts[kBackward]);
    if (!step.ranks.empty()) fastest[worlds.at(step.incarnation)].push_back(least / static_cast<double>(step.count));
  }
  for (auto& [world, values] : fastest) {
    for (size_t begin = 0; begin < values.size(); begin += kBlock) {
      const auto first = values.begin() + static_cast<std::ptrdiff_t>(begin);
      const auto last = values.begin() + static_cast<std::ptrdiff_t>(std::min(values.size(), begin + kBlock));
      std::fill(first, last, Median({first, last}));
    }
  }
  return fastest;
}

// Computing that takes longer than in the run's others or, of a whole run, than in its faster ones, on all ranks: a
// processor that is slowed down or shared shows as that alone.
Candidate SlowerComputing(const std::vector<ModelStep>& model, const std::vector<StepTimes>& steps,
                          const std::vector<StepTimes>& others) {
  Candidate cause;
  cause.finding.set_cause(kCompute);
  cause.finding.set_kind("slower");
  const std::map<int, size_t> worlds = WorldsOf(steps);
  ByWorld own = FastestComputing(steps), apart = FastestComputing(others);
  std::map<size_t, double> fast_s;
  for (const auto& [world, values] : own) {
    const bool compares = apart[world].size() >= kEnoughOthers;
    std::vector<double> bins = BinMeans(compares ? apart[world] : values, kComputeBins);
    fast_s[world] = Percentile(&bins, compares ? 0.5 : kFastShare);
  }
  std::map<size_t, size_t> place;
  for (const ModelStep& step : model) {
    const size_t world = worlds.at(step.times->incarnation);
    const auto count = static_cast<double>(step.times->count);
    cause.saving.push_back((own[world][place[world]++] - fast_s[world]) * count);
  }
  return cause;
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

// Sets what the causes save with its interval, sorts by it, the first first, and says how sure it is that the first is
// the first. Leaves those that are noticeable; how sure it is that there is none.
double Weigh(double step_s, std::vector<Candidate>* causes) {
  const Resampling resampling(causes->front().saving.size());
  const auto steps = static_cast<double>(causes->front().saving.size());
  std::vector<std::vector<double>> means(causes->size());
  std::vector<int> wins(causes->size(), 0);
  std::vector<std::vector<double>> sums;
  for (const Candidate& cause : *causes) sums.push_back(resampling.Sums(cause.saving));
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
  std::vector<Candidate> noticeable;
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
  std::stable_sort(noticeable.begin(), noticeable.end(), [](const Candidate& a, const Candidate& b) {
    return a.finding.saving_s_per_step() > b.finding.saving_s_per_step();
  });
  // Those that hide behind each other stand in their order, where any of them stands.
  std::vector<size_t> at;
  std::vector<Candidate> in_order;
  for (size_t i = 0; i < noticeable.size(); ++i) {
    if (!noticeable[i].place.has_value()) continue;
    at.push_back(i);
    in_order.push_back(std::move(noticeable[i]));
  }
  std::sort(in_order.begin(), in_order.end(),
            [](const Candidate& a, const Candidate& b) { return *a.place < *b.place; });
  for (size_t i = 0; i < at.size(); ++i) noticeable[at[i]] = std::move(in_order[i]);
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
    const double last = step.last_ready(), median = Median(step.ready), median_update = Median(step.update);
    for (size_t i = 0; i < step.ready.size(); ++i) {
      Anatomy::RankLateness& lateness = by_rank[step.times->ranks[i].rank];
      lateness.rank = step.times->ranks[i].rank;
      ++lateness.steps;
      lateness.last += step.ready[i] >= last ? 1 : 0;
      lateness.late_s += step.ready[i] - median + step.update[i] - median_update;
      lateness.early_s.push_back(last - step.ready[i]);
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
  anatomy.verdict.set_cause(kCompute);
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

  std::vector<Candidate> causes = {SlowerComputing(model, steps, others)};
  // What is seen first, then what is inferred; of the rest of the waiting some may be a part of lateness.
  std::vector<ModelStep> without = model;
  const double seconds = anatomy.step_s * count;
  const Candidate input = TakeInput(&without);
  std::vector<Removal> removals;
  if (TotalOf(input) >= input.noticeable() * seconds) {
    removals.emplace_back(TakeInput);
  } else {
    without = model;
  }
  if (!alone) {
    causes.push_back(CommunicationOf(model));
    TakeStragglers(seconds, &without, &removals);
  }
  for (Candidate& cause : InOrder(seconds, std::move(removals), &model)) causes.push_back(std::move(cause));
  if (!alone) {
    Candidate rotating = RotatingStraggler(model);
    // In a few steps, however late, it is an accident: half of them have to have one.
    if (Median(rotating.saving) >= kNoticeable * seconds / static_cast<double>(model.size())) {
      causes.push_back(std::move(rotating));
    }
  }
  AddTo(TakeInput(&model), &causes);
  for (Candidate& cause : causes) {
    for (size_t i = 0; i < model.size(); ++i) cause.saving[i] /= static_cast<double>(model[i].times->count);
  }
  anatomy.verdict.set_confidence(Weigh(anatomy.step_s, &causes));
  for (const Candidate& cause : causes) anatomy.causes.push_back(cause.finding);
  if (!anatomy.causes.empty()) anatomy.verdict = anatomy.causes.front();
  return anatomy;
}

}  // namespace lockstep
