#include "coordinator/report/step_model.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <utility>

namespace lockstep {
namespace {

// Clocks tell if their error is at most this share of a step, and nothing but steps lies between two of them.
constexpr double kSmall = 0.01;

bool Follows(const StepTimes& before, const StepTimes& step) {
  return before.step == step.step - step.count && before.incarnation == step.incarnation;
}

// By rank: of `updates` the longest among the ranks that wait for each other's.
std::vector<double> LongestOf(const StepTimes& step, const std::vector<double>& updates) {
  std::map<int, double> longest = {{-1, 0}};
  for (size_t k = 0; k < updates.size(); ++k) {
    double& of_all = longest[step.ranks[k].updates_with];
    of_all = std::max(of_all, updates[k]);
  }
  std::vector<double> by_rank;
  for (const RankTimes& rank : step.ranks) by_rank.push_back(longest[rank.updates_with]);
  return by_rank;
}

// By rank: how long its update was, where others wait for it; else 0.
std::vector<double> UpdatesOf(const StepTimes& step) {
  std::map<int, const RankTimes*> first;  // of ranks that wait for each other the first to be done
  for (const RankTimes& rank : step.ranks) {
    const RankTimes*& one = first.emplace(rank.updates_with, &rank).first->second;
    if (rank.update_wait > one->update_wait) one = &rank;
  }
  std::vector<double> updates;
  for (const RankTimes& rank : step.ranks) {
    const RankTimes& done = rank.update_wait < 0 ? rank : *first[rank.updates_with];
    const double since_first = done.at_meeting(kOptimizer) + done.update_wait - rank.update_wait;
    updates.push_back(rank.updates_with < 0 ? 0 : std::min(since_first, rank.at_meeting(kOptimizer)));
  }
  return updates;
}

// By rank: when the reduction let it go. From then on ranks update, and wait for the last that does.
std::vector<double> ReducedAt(const StepTimes& step) {
  const std::vector<double> updated = LongestOf(step, UpdatesOf(step));
  std::vector<double> reduced;
  for (size_t k = 0; k < updated.size(); ++k) reduced.push_back(step.ranks[k].let_go() - updated[k]);
  return reduced;
}

double LastReduced(const StepTimes& step) {
  const std::vector<double> reduced = ReducedAt(step);
  return *std::max_element(reduced.begin(), reduced.end());
}

// Of ranks that are in both.
void AddTo(const StepTimes& step, StepTimes* series) {
  std::vector<RankTimes> ranks;
  for (RankTimes& sum : series->ranks) {
    const auto one = std::find_if(step.ranks.begin(), step.ranks.end(),
                                  [&](const RankTimes& rank) { return rank.rank == sum.rank; });
    if (one == step.ranks.end()) continue;
    sum.local = sum.parts;
    for (int part = 0; part < kParts; ++part) sum.parts[part] += one->parts[part];
    sum.had_data = sum.had_data && one->had_data;
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

// Of `steps[i]` the parts and updates: what follows the last reduction is in the record of the step before, if that is
// there.
void SetWork(const std::vector<StepTimes>& steps, size_t i, ModelStep* model) {
  const StepTimes& step = steps[i];
  const StepTimes& before = i > 0 && Follows(steps[i - 1], step) ? steps[i - 1] : step;
  const std::vector<double> updates = UpdatesOf(step), updates_before = UpdatesOf(before);
  for (size_t k = 0; k < step.ranks.size(); ++k) {
    const RankTimes& rank = step.ranks[k];
    const RankTimes* after = &rank;
    double update = updates[k];
    for (size_t other = 0; other < before.ranks.size(); ++other) {
      if (before.ranks[other].rank != rank.rank) continue;
      after = &before.ranks[other];
      update = updates_before[other];
    }
    Parts& parts = model->parts.emplace_back(rank.parts);
    parts[kCommExposed] = rank.local[kCommExposed];
    parts[kOptimizer] = rank.local[kOptimizer] + (rank.updates_with < 0 ? after->at_meeting(kOptimizer) : 0);
    parts[kOther] = rank.local[kOther] + after->at_meeting(kOther);
    model->update.push_back(update);
  }
}

std::vector<double> InAll(const std::vector<Parts>& all) {
  std::vector<double> sums;
  for (const Parts& parts : all) sums.push_back(std::accumulate(parts.begin(), parts.end(), 0.0));
  return sums;
}

// All of a step but the transfer, by each rank's own clock.
ModelStep WithoutTransfer(const std::vector<StepTimes>& steps, size_t i) {
  ModelStep step;
  step.times = &steps[i];
  SetWork(steps, i, &step);
  step.work = step.own = InAll(step.parts);
  for (const RankTimes& rank : steps[i].ranks) step.data_wait.push_back(rank.parts[kDataWait]);
  return step;
}

}  // namespace

std::vector<double> ModelStep::updated() const { return LongestOf(*times, update); }

std::vector<double> ModelStep::ready() const {
  std::vector<double> ready = updated();
  std::transform(own.begin(), own.end(), ready.begin(), ready.begin(), std::plus<>());
  return ready;
}

double ModelStep::longest() const {
  const std::vector<double> all = ready();
  return *std::max_element(all.begin(), all.end());
}

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
    ModelStep& one = model.emplace_back(WithoutTransfer(steps, i));
    const std::vector<double> reduced = ReducedAt(steps[i]);
    one.transfer = INFINITY;
    for (size_t k = 0; k < reduced.size(); ++k) {
      one.transfer = std::min(one.transfer, reduced[k] - steps[i].ranks[k].came());
    }
    if (i == 0 || !OnOneClock(steps[i - 1], steps[i])) continue;
    const double before = LastReduced(steps[i - 1]);
    const std::vector<double> updated = one.updated();
    for (size_t k = 0; k < one.own.size(); ++k) one.own[k] = steps[i].ranks[k].came() - before - updated[k];
    one.transfer = LastReduced(steps[i]) - before - one.longest();
  }
  return model;
}

std::vector<double> WaitsOf(const std::vector<StepTimes>& steps, size_t i) {
  std::vector<double> waits;
  if (steps[i].ranks.empty()) return waits;
  const ModelStep step = WithoutTransfer(steps, i);
  const std::vector<double> ready = step.ready(), updates = UpdatesOf(steps[i]), updated = LongestOf(steps[i], updates);
  const double last = step.longest();
  for (size_t k = 0; k < ready.size(); ++k) waits.push_back(last - ready[k] + updated[k] - updates[k]);
  return waits;
}

}  // namespace lockstep
