#include "coordinator/report/step_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace lockstep {
namespace {

// Clocks tell if their error is at most this share of a step, and nothing but steps lies between two of them.
constexpr double kSmall = 0.01;

bool Follows(const StepTimes& before, const StepTimes& step) {
  return before.step == step.step - step.count && before.incarnation == step.incarnation;
}

double LastLetGo(const StepTimes& step) {
  double last = -INFINITY;
  for (const RankTimes& rank : step.ranks) last = std::max(last, rank.let_go());
  return last;
}

// Of ranks that are in both.
void AddTo(const StepTimes& step, StepTimes* series) {
  std::vector<RankTimes> ranks;
  for (RankTimes& sum : series->ranks) {
    const auto one = std::find_if(step.ranks.begin(), step.ranks.end(),
                                  [&](const RankTimes& rank) { return rank.rank == sum.rank; });
    if (one == step.ranks.end()) continue;
    for (int part = 0; part < kParts; ++part) sum.parts[part] += one->parts[part];
    ranks.push_back(sum);
  }
  series->ranks = std::move(ranks);
  series->step = step.step;
  series->count += step.count;
  series->meets = step.meets;
  series->clock_error_s = std::max(series->clock_error_s, step.clock_error_s);
}

// Whether `step` follows `before` at once, and the clocks tell by how much one rank came after another.
bool OnOneClock(const StepTimes& before, const StepTimes& step) {
  if (!Follows(before, step)) return false;
  if (before.ranks.size() != step.ranks.size()) return false;
  for (size_t i = 0; i < step.ranks.size(); ++i) {
    const RankTimes &earlier = before.ranks[i], &later = step.ranks[i];
    if (earlier.rank != later.rank || earlier.start == 0 || later.start == 0) return false;
    const double small_s = kSmall * later.step();
    if (std::abs(later.start - earlier.start - earlier.step()) > small_s || step.clock_error_s > small_s) return false;
  }
  return true;
}

// The work of every rank of `steps[i]` since its last reduction, comm_exposed and a shared update 0: what comes after
// that reduction is in the record of the step before, if that is there.
std::vector<Parts> WorkPartsOf(const std::vector<StepTimes>& steps, size_t i) {
  const StepTimes& step = steps[i];
  const StepTimes* const before = i > 0 && Follows(steps[i - 1], step) ? &steps[i - 1] : nullptr;
  std::vector<Parts> all;
  for (const RankTimes& rank : step.ranks) {
    const RankTimes* after = &rank;
    for (size_t k = 0; before != nullptr && k < before->ranks.size(); ++k) {
      if (before->ranks[k].rank == rank.rank) after = &before->ranks[k];
    }
    Parts& parts = all.emplace_back(rank.parts);
    parts[kCommExposed] = 0;
    parts[kOptimizer] = rank.shares_update ? 0 : after->parts[kOptimizer];
    parts[kOther] = after->parts[kOther];
  }
  return all;
}

std::vector<double> SharedUpdatesOf(const StepTimes& step) {
  std::vector<double> updates;
  for (const RankTimes& rank : step.ranks) updates.push_back(rank.shares_update ? rank.parts[kOptimizer] : 0);
  return updates;
}

// Adds to each of `waits` what is left until the last of `done`.
void AddWaits(const std::vector<double>& done, std::vector<double>* waits) {
  const double last = *std::max_element(done.begin(), done.end());
  for (size_t k = 0; k < done.size(); ++k) (*waits)[k] += last - done[k];
}

std::vector<double> InAll(const std::vector<Parts>& all) {
  std::vector<double> sums;
  for (const Parts& parts : all) sums.push_back(std::accumulate(parts.begin(), parts.end(), 0.0));
  return sums;
}

}  // namespace

const char* PartName(int part) {
  constexpr const char* kNames[kParts] = {"data_wait", "forward", "backward", "comm_exposed", "optimizer", "other"};
  return kNames[part];
}

std::vector<StepTimes> Meetings(const std::vector<StepTimes>& steps) {
  const auto meets = [](const StepTimes& step) { return step.meets; };
  if (std::all_of(steps.begin(), steps.end(), meets)) return steps;
  std::vector<StepTimes> meetings;
  bool begun = false;  // with the step after a meeting
  StepTimes series;
  for (size_t i = 0; i < steps.size(); ++i) {
    const bool follows = i > 0 && Follows(steps[i - 1], steps[i]);
    if (!follows || steps[i - 1].meets) {
      begun = follows || steps[i].step == 1;
      series = steps[i];
    } else {
      AddTo(steps[i], &series);
    }
    if (begun && steps[i].meets) meetings.push_back(series);
  }
  return meetings;
}

std::vector<ModelStep> ModelOf(const std::vector<StepTimes>& steps) {
  std::vector<ModelStep> model;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].ranks.empty()) continue;
    ModelStep& one = model.emplace_back();
    one.times = &steps[i];
    one.parts = WorkPartsOf(steps, i);
    one.work = one.ready = InAll(one.parts);
    one.update = SharedUpdatesOf(steps[i]);
    one.transfer = INFINITY;
    for (size_t k = 0; k < one.ready.size(); ++k) {
      const Parts& parts = steps[i].ranks[k].parts;
      one.data_wait.push_back(parts[kDataWait]);
      one.transfer = std::min(one.transfer, parts[kCommExposed] + one.update[k]);
    }
    one.transfer -= one.longest() - one.last_ready();
    if (i == 0 || !OnOneClock(steps[i - 1], steps[i])) continue;
    const double before = LastLetGo(steps[i - 1]);
    for (size_t k = 0; k < one.ready.size(); ++k) one.ready[k] = steps[i].ranks[k].came() - before;
    one.transfer = LastLetGo(steps[i]) - before - one.longest();
  }
  return model;
}

std::vector<double> WaitsOf(const std::vector<StepTimes>& steps, size_t i) {
  std::vector<double> waits(steps[i].ranks.size(), 0);
  if (waits.empty()) return waits;
  AddWaits(InAll(WorkPartsOf(steps, i)), &waits);
  AddWaits(SharedUpdatesOf(steps[i]), &waits);
  return waits;
}

}  // namespace lockstep
