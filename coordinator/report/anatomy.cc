#include "coordinator/report/anatomy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "common/base/stable_random.h"
#include "common/base/statistics.h"

namespace lockstep {
namespace {

// A rank is late persistently if it comes last in so many of the steps beyond an even share: 1 is all of them.
constexpr double kPersistent = 0.4;
constexpr int kResamplings = 400;
constexpr size_t kBlocks = 50;
constexpr size_t kFewestOfStretch = 10;
constexpr uint64_t kResampleKey = 0x726573616d706c65;  // "resample"

constexpr char kCompute[] = "compute-bound";
constexpr char kCommunication[] = "communication-bound";
constexpr char kInput[] = "input-bound";
constexpr char kStraggler[] = "straggler-bound";

double MedianOf(std::vector<double> values) { return Percentile(&values, 0.5); }

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

// Clocks tell if their error is at most this share of a step, and nothing but steps lies between two of them.
constexpr double kSmall = 0.01;

// A step as the model sees it; the ranks' values in the order of `times->ranks`.
struct ModelStep {
  const StepTimes* times = nullptr;
  std::vector<double> work;       // each rank's own
  std::vector<double> ready;      // when each came, after the last was let go; the same as `work` where no clock tells
  std::vector<double> data_wait;  // of that
  double transfer = 0;

  double longest() const { return *std::max_element(ready.begin(), ready.end()); }
  double seconds() const { return longest() + transfer; }
};

double LastLetGo(const StepTimes& step) {
  double last = -INFINITY;
  for (const RankTimes& rank : step.ranks) last = std::max(last, rank.let_go());
  return last;
}

// Whether `step` follows `before` at once, and the clocks tell by how much one rank came after another.
bool OnOneClock(const StepTimes& before, const StepTimes& step) {
  if (before.step != step.step - 1 || before.incarnation != step.incarnation) return false;
  if (before.ranks.size() != step.ranks.size()) return false;
  for (size_t i = 0; i < step.ranks.size(); ++i) {
    const RankTimes &earlier = before.ranks[i], &later = step.ranks[i];
    if (earlier.rank != later.rank || earlier.start == 0 || later.start == 0) return false;
    const double small_s = kSmall * later.step();
    if (std::abs(later.start - earlier.start - earlier.step()) > small_s || step.clock_error_s > small_s) return false;
  }
  return true;
}

std::vector<ModelStep> ModelOf(const std::vector<StepTimes>& steps) {
  std::vector<ModelStep> model;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].ranks.empty()) continue;
    ModelStep& one = model.emplace_back();
    one.times = &steps[i];
    one.work = one.ready = WorkOf(steps, i);
    one.transfer = INFINITY;
    for (const RankTimes& rank : steps[i].ranks) {
      one.data_wait.push_back(rank.parts[kDataWait]);
      one.transfer = std::min(one.transfer, rank.parts[kCommExposed]);
    }
    if (i == 0 || !OnOneClock(steps[i - 1], steps[i])) continue;
    const double before = LastLetGo(steps[i - 1]);
    for (size_t k = 0; k < one.ready.size(); ++k) one.ready[k] = steps[i].ranks[k].came() - before;
    one.transfer = LastLetGo(steps[i]) - before - one.longest();
  }
  return model;
}

// A cause with what it costs in every step.
struct Candidate {
  Finding finding;
  std::vector<double> saving;  // by step
};

// Rank `rank` beside the others, over the steps in which it is recorded with others.
struct Lateness {
  int rank = -1;
  double late_s = 0;                        // median of its work less the other ranks' median
  std::vector<double> late_by_step;         // of the model; the median over the steps around, at least 0
  double last_share = 0, even_share = 0;    // of the steps, those in which it comes last; if all did so as often
  std::array<double, kParts> by_part = {};  // sums of its own less the others' mean; what it waits does not count
};

void AddByPart(const std::vector<RankTimes>& ranks, size_t own, std::array<double, kParts>* by_part) {
  for (int part = 0; part < kParts; ++part) {
    if (part == kCommExposed) continue;
    double sum = 0;
    for (const RankTimes& rank : ranks) sum += rank.parts[part];
    const double mean = ranks[own].parts[part];
    (*by_part)[part] += mean - (sum - mean) / static_cast<double>(ranks.size() - 1);
  }
}

// A run may have a late rank for some of its steps only: so its lateness is a step's neighbours', in stretches. `late`:
// by step, NaN where it is not known.
std::vector<double> ByStretch(const std::vector<double>& late) {
  std::vector<double> typical;
  const size_t stretches = std::max<size_t>(1, std::min(kBlocks, late.size() / kFewestOfStretch));
  for (size_t stretch = 0; stretch < stretches; ++stretch) {
    const size_t begin = stretch * late.size() / stretches, end = (stretch + 1) * late.size() / stretches;
    std::vector<double> known;
    for (size_t i = begin; i < end; ++i) {
      if (!std::isnan(late[i])) known.push_back(late[i]);
    }
    typical.insert(typical.end(), end - begin, std::max(0.0, MedianOf(std::move(known))));
  }
  return typical;
}

Lateness LatenessOf(const std::vector<ModelStep>& model, int rank) {
  Lateness lateness;
  lateness.rank = rank;
  std::vector<double> late, by_step;
  for (const ModelStep& step : model) {
    by_step.push_back(std::nan(""));
    const std::vector<RankTimes>& ranks = step.times->ranks;
    const auto at = std::find_if(ranks.begin(), ranks.end(), [rank](const RankTimes& r) { return r.rank == rank; });
    if (at == ranks.end() || ranks.size() < 2) continue;
    const auto own = at - ranks.begin();
    std::vector<double> others = step.work;
    others.erase(others.begin() + own);
    late.push_back(step.work[own] - MedianOf(std::move(others)));
    by_step.back() = late.back();
    lateness.last_share += step.work[own] >= *std::max_element(step.work.begin(), step.work.end()) ? 1 : 0;
    lateness.even_share += 1.0 / static_cast<double>(ranks.size());
    AddByPart(ranks, static_cast<size_t>(own), &lateness.by_part);
  }
  if (late.empty()) return lateness;
  lateness.last_share /= static_cast<double>(late.size());
  lateness.even_share /= static_cast<double>(late.size());
  lateness.late_s = MedianOf(std::move(late));
  lateness.late_by_step = ByStretch(by_step);
  return lateness;
}

bool IsPersistent(const Lateness& lateness) {
  return lateness.late_s > 0 && lateness.last_share - lateness.even_share > kPersistent * (1 - lateness.even_share);
}

std::vector<int> RanksOf(const std::vector<StepTimes>& steps) {
  std::map<int, bool> ranks;
  for (const StepTimes& step : steps) {
    for (const RankTimes& rank : step.ranks) ranks[rank.rank] = true;
  }
  std::vector<int> list;
  for (const auto& [rank, there] : ranks) list.push_back(rank);
  return list;
}

// A rank that is late nearly always, brought to where the others are. `model` is left without it.
bool TakeStraggler(std::vector<ModelStep>* model, const std::vector<int>& ranks, std::vector<Candidate>* causes) {
  Lateness latest;
  for (const int rank : ranks) {
    const Lateness lateness = LatenessOf(*model, rank);
    if (IsPersistent(lateness) && lateness.late_s > latest.late_s) latest = lateness;
  }
  if (latest.late_s <= 0) return false;
  const auto part = std::max_element(latest.by_part.begin(), latest.by_part.end()) - latest.by_part.begin();
  Candidate cause;
  double total = 0;
  for (size_t s = 0; s < model->size(); ++s) {
    ModelStep& step = (*model)[s];
    const double before = step.longest(), late_s = latest.late_by_step[s];
    for (size_t i = 0; i < step.work.size(); ++i) {
      if (step.times->ranks[i].rank != latest.rank) continue;
      step.work[i] = std::max(0.0, step.work[i] - late_s);
      std::vector<double> others = step.ready;
      others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
      // No earlier than the others: without being late it has nothing to make up for.
      const double with_others = std::min(step.ready[i], MedianOf(std::move(others)));
      step.ready[i] = std::max(step.ready[i] - late_s, with_others);
      if (part == kDataWait) step.data_wait[i] = std::max(0.0, step.data_wait[i] - late_s);
    }
    cause.saving.push_back(before - step.longest());
    total += before + step.transfer;
  }
  const double saving = std::accumulate(cause.saving.begin(), cause.saving.end(), 0.0);
  cause.finding.set_cause(part == kDataWait ? kInput : kStraggler);
  cause.finding.set_kind(PartName(static_cast<int>(part)));
  cause.finding.set_rank(latest.rank);
  cause.finding.set_persistence("persistent");
  causes->push_back(std::move(cause));
  return saving >= kNoticeable * total;
}

// Another rank each time: the last of a step brought forward by what a last one is late, typically, against the median
// of the others; so that what is left is as uneven as ranks are without a fault.
Candidate RotatingStraggler(const std::vector<ModelStep>& model) {
  Candidate cause;
  cause.finding.set_cause(kStraggler);
  cause.finding.set_rank(-1);
  cause.finding.set_persistence("rotating");
  std::vector<double> late;
  for (const ModelStep& step : model) {
    std::vector<double> others = step.ready;
    others.erase(std::max_element(others.begin(), others.end()));
    if (!others.empty()) late.push_back(step.longest() - MedianOf(std::move(others)));
  }
  const double typical = MedianOf(std::move(late));
  for (const ModelStep& step : model) {
    const auto [last, before] = TopTwo(step.ready);
    cause.saving.push_back(last - std::max(last - typical, before));
  }
  return cause;
}

// All ranks' waiting for data left out.
Candidate InputOf(const std::vector<ModelStep>& model) {
  Candidate cause;
  cause.finding.set_cause(kInput);
  cause.finding.set_rank(-1);
  for (const ModelStep& step : model) {
    double without = -INFINITY;
    for (size_t i = 0; i < step.ready.size(); ++i) {
      without = std::max(without, step.ready[i] - step.data_wait[i]);
    }
    cause.saving.push_back(std::max(0.0, step.longest() - without));
  }
  return cause;
}

Candidate CommunicationOf(const std::vector<ModelStep>& model) {
  Candidate cause;
  cause.finding.set_cause(kCommunication);
  cause.finding.set_rank(-1);
  for (const ModelStep& step : model) cause.saving.push_back(step.transfer);
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

// Means, their intervals, and how sure it is that the first is the first. Sorts by what removing them saves. How sure
// it is that none saves as much as `noticeable_s`.
double Weigh(double noticeable_s, std::vector<Candidate>* causes, const std::vector<ModelStep>& model) {
  const auto steps = static_cast<double>(model.size());
  for (Candidate& cause : *causes) cause.finding.set_saving_s_per_step(MeanOf(cause.saving).value);
  std::stable_sort(causes->begin(), causes->end(), [](const Candidate& a, const Candidate& b) {
    return a.finding.saving_s_per_step() > b.finding.saving_s_per_step();
  });
  const Resampling resampling(model.size());
  std::vector<std::vector<double>> sums;
  for (const Candidate& cause : *causes) sums.push_back(resampling.Sums(cause.saving));
  std::vector<std::vector<double>> means(causes->size());
  std::vector<int> wins(causes->size(), 0);
  int none = 0;
  for (int draw = 0; draw < kResamplings; ++draw) {
    const std::vector<int> times = resampling.Draw(draw);
    size_t best = 0;
    for (size_t c = 0; c < causes->size(); ++c) {
      double sum = 0;
      for (size_t b = 0; b < times.size(); ++b) sum += times[b] * sums[c][b];
      means[c].push_back(sum / steps);
      if (means[c].back() > means[best].back()) best = c;
    }
    ++wins[best];
    none += means[best].back() < noticeable_s ? 1 : 0;
  }
  for (size_t c = 0; c < causes->size(); ++c) {
    std::sort(means[c].begin(), means[c].end());
    Finding& finding = (*causes)[c].finding;
    finding.set_saving_low_s(means[c][kResamplings / 40]);
    finding.set_saving_high_s(means[c][kResamplings - 1 - kResamplings / 40]);
    finding.set_confidence(static_cast<double>(wins[c]) / kResamplings);
  }
  return static_cast<double>(none) / kResamplings;
}

// A rotating straggler in a few steps, however late, is an accident: half of the steps have to have one.
bool IsNoticeable(const Candidate& cause, double step_s) {
  if (cause.finding.saving_s_per_step() < kNoticeable * step_s) return false;
  return cause.finding.persistence() != "rotating" || MedianOf(cause.saving) >= kNoticeable * step_s;
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
    const double longest = step.longest(), median = MedianOf(step.ready);
    for (size_t i = 0; i < step.ready.size(); ++i) {
      Anatomy::RankLateness& lateness = by_rank[step.times->ranks[i].rank];
      lateness.rank = step.times->ranks[i].rank;
      ++lateness.steps;
      lateness.last += step.ready[i] >= longest ? 1 : 0;
      lateness.late_s += step.ready[i] - median;
      lateness.early_s.push_back(longest - step.ready[i]);
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

const char* PartName(int part) {
  constexpr const char* kNames[kParts] = {"data_wait", "forward", "backward", "comm_exposed", "optimizer", "other"};
  return kNames[part];
}

std::vector<double> WorkOf(const std::vector<StepTimes>& steps, size_t i) {
  const StepTimes& step = steps[i];
  const StepTimes* const before =
      i > 0 && steps[i - 1].step == step.step - 1 && steps[i - 1].incarnation == step.incarnation ? &steps[i - 1]
                                                                                                  : nullptr;
  std::vector<double> work;
  for (const RankTimes& rank : step.ranks) {
    const RankTimes* after = &rank;
    for (size_t k = 0; before != nullptr && k < before->ranks.size(); ++k) {
      if (before->ranks[k].rank == rank.rank) after = &before->ranks[k];
    }
    work.push_back(after->parts[kOptimizer] + after->parts[kOther] + rank.parts[kDataWait] + rank.parts[kForward] +
                   rank.parts[kBackward]);
  }
  return work;
}

Anatomy Analyze(const std::vector<StepTimes>& steps) {
  Anatomy anatomy;
  anatomy.verdict.set_cause(kCompute);
  anatomy.verdict.set_rank(-1);
  std::vector<ModelStep> model = ModelOf(steps);
  if (model.empty()) return anatomy;
  SetEfficiency(model, &anatomy.efficiency);
  anatomy.lateness = LatenessByRank(model);
  for (const ModelStep& step : model) {
    anatomy.work_s += step.longest() / static_cast<double>(model.size());
    anatomy.transfer_s += step.transfer / static_cast<double>(model.size());
  }
  const bool alone = anatomy.lateness.size() == 1;
  if (alone) anatomy.transfer_s = 0;
  anatomy.step_s = anatomy.work_s + anatomy.transfer_s;

  std::vector<Candidate> causes;
  if (!alone) {
    causes.push_back(CommunicationOf(model));
    const std::vector<int> ranks = RanksOf(steps);
    for (size_t i = 0; i < ranks.size() && TakeStraggler(&model, ranks, &causes); ++i) {
    }
    causes.push_back(RotatingStraggler(model));
  }
  causes.push_back(InputOf(model));
  anatomy.verdict.set_confidence(Weigh(kNoticeable * anatomy.step_s, &causes, model));
  for (const Candidate& cause : causes) {
    if (IsNoticeable(cause, anatomy.step_s)) anatomy.causes.push_back(cause.finding);
  }
  if (!anatomy.causes.empty()) anatomy.verdict = anatomy.causes.front();
  return anatomy;
}

}  // namespace lockstep
