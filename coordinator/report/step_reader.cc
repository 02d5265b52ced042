#include "coordinator/report/step_reader.h"

#include <algorithm>
#include <utility>

#include "common/base/stable_random.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

// Where ranks of a host share parameters, each updates a part of them.
constexpr char kOneHost[] = "shared", kSeveralHosts[] = "hierarchical";

constexpr size_t kBins = 400;
constexpr int64_t kRowsLookedAt = 40'000;     // of ranks' steps, about
constexpr uint64_t kPlaceKey = 0x706c616365;  // "place"

std::array<double, kParts> PartsOf(const StepRecord& record) {
  return {record.data_wait_s(),    record.forward_s(),   record.backward_s(),
          record.comm_exposed_s(), record.optimizer_s(), record.other_s()};
}

StepFacts FactsOf(const StepRow& row) {
  StepFacts facts;
  facts.step = row.mean.step();
  facts.incarnation = row.incarnation;
  facts.time = row.time;
  facts.parts = PartsOf(row.mean);
  facts.step_s = row.mean.step_s();
  facts.step_max_s = row.step_max_s;
  facts.busy_s = row.mean.comm_busy_s();
  facts.overlap_s = row.overlap_ratio * row.mean.comm_busy_s();
  facts.wait_s = row.mean.comm_wait_s();
  facts.interval_s = row.mean.comm_interval_s();
  facts.loss = row.loss;
  facts.clock_error_s = row.mean.clock_error_s();
  facts.samples = row.mean.samples();
  facts.grad_bytes = row.mean.grad_bytes();
  facts.wire_bytes = row.mean.wire_bytes();
  return facts;
}

// How many ranks a step has on record, at most, by the steps in the middle of stretches.
absl::StatusOr<int64_t> MostRanks(const std::vector<RunRecord::Stretch>& stretches, RunRecord* record) {
  int64_t most = 1;
  for (const RunRecord::Stretch& stretch : stretches) {
    const int64_t step = stretch.first + (stretch.last - stretch.first) / 2;
    int64_t ranks = 0;
    RETURN_IF_ERROR(record->EachRankStep(stretch.incarnation, step, step, [&](const RankStepRow&) { ++ranks; }));
    most = std::max(most, ranks);
  }
  return most;
}

const RunRecord::Place* PlaceOf(const RunRecord::Places& places, int incarnation, int rank) {
  const auto launch = places.find(incarnation);
  if (launch == places.end()) return nullptr;
  const auto place = launch->second.find(rank);
  return place == launch->second.end() ? nullptr : &place->second;
}

// By launch and rank: the first of the ranks that share parameters with it. None where each has its own.
using Sharing = std::map<int, std::map<int, int>>;
Sharing SharingOf(const RunRecord::Places& places) {
  Sharing sharing;
  for (const auto& [incarnation, launch] : places) {
    std::map<std::string, int> first;  // by host
    for (const auto& [rank, place] : launch) {
      if (place.algorithm != kOneHost && place.algorithm != kSeveralHosts) continue;
      sharing[incarnation][rank] = first.emplace(place.host, rank).first->second;
    }
  }
  return sharing;
}

// The steps [begin, end) of `steps->all` rank by rank.
absl::Status LookAt(size_t begin, size_t end, const RunRecord::Places& places, RunRecord* record, RunSteps* steps) {
  while (begin < end) {  // a bin may hold the end of one launch and the beginning of the next
    size_t stop = begin;
    while (stop < end && steps->all[stop].incarnation == steps->all[begin].incarnation) ++stop;
    const auto add = [&](const RankStepRow& row) {
      std::vector<StepTimes>& all = steps->looked_at;
      if (all.empty() || all.back().step != row.record.step() || all.back().incarnation != row.incarnation) {
        all.emplace_back();
        all.back().step = row.record.step();
        all.back().incarnation = row.incarnation;
        all.back().meets = false;
      }
      RankTimes& times = all.back().ranks.emplace_back();
      times.rank = row.rank;
      times.parts = PartsOf(row.record);
      times.start = row.record.start();
      times.update_wait = row.record.update_wait_s();
      times.had_data = row.record.input_ready() > 0;
      if (const RunRecord::Place* place = PlaceOf(places, row.incarnation, row.rank); place != nullptr) {
        times.host = &place->host;
      }
      all.back().meets = all.back().meets || row.record.comm_busy_s() > 0;
      all.back().clock_error_s = std::max(all.back().clock_error_s, row.record.clock_error_s());
      InputFacts& input = steps->input[row.rank];
      ++input.steps;
      input.read_s += row.record.input_read_s();
      input.decode_s += row.record.input_decode_s();
      input.ready += row.record.input_ready();
      steps->wait_s[row.rank] += row.record.comm_wait_s();
    };
    RETURN_IF_ERROR(
        record->EachRankStep(steps->all[begin].incarnation, steps->all[begin].step, steps->all[stop - 1].step, add));
    begin = stop;
  }
  return absl::OkStatus();
}

std::set<int> Followed(const std::vector<StepTimes>& steps) {
  std::map<int, std::pair<size_t, std::map<int, size_t>>> launches;  // steps, and of them each rank's
  for (const StepTimes& step : steps) {
    auto& [count, of_rank] = launches[step.incarnation];
    ++count;
    for (const RankTimes& rank : step.ranks) ++of_rank[rank.rank];
  }
  std::set<int> ranks;
  for (const auto& [incarnation, launch] : launches) {
    for (const auto& [rank, count] : launch.second) {
      if (2 * count >= launch.first) ranks.insert(rank);
    }
  }
  return ranks;
}

// Where ranks meet, for the reduction and for the update.
void SetMeetings(const RunRecord::Places& places, int64_t period, RunSteps* steps) {
  std::set<int> meet;  // launches whose ranks do; a rank alone does not, nor do ranks between two meetings
  for (const StepTimes& step : steps->looked_at) {
    if (step.meets) meet.insert(step.incarnation);
  }
  const Sharing sharing = SharingOf(places);
  for (StepTimes& step : steps->looked_at) {
    const bool ever = meet.count(step.incarnation) > 0;
    step.meets = step.meets || !ever;
    const auto shared = sharing.find(step.incarnation);
    for (RankTimes& rank : step.ranks) {
      if (shared != sharing.end() && shared->second.count(rank.rank) > 0) {
        rank.updates_with = shared->second.at(rank.rank);
      } else if (ever && period > 1) {  // all parameters are averaged after it
        rank.updates_with = 0;
        rank.update_wait = -1;  // it is in the averaging, and nobody knows how long
      }
    }
  }
  steps->meetings = Meetings(steps->looked_at);
}

}  // namespace

const StepFacts* RunSteps::Find(int64_t step) const {
  const auto at = std::lower_bound(all.begin(), all.end(), step,
                                   [](const StepFacts& one, int64_t number) { return one.step < number; });
  return at != all.end() && at->step == step ? &*at : nullptr;
}

size_t RunSteps::BinOf(int64_t step) const {
  const auto place = std::lower_bound(all.begin(), all.end(), step,
                                      [](const StepFacts& one, int64_t number) { return one.step < number; });
  const auto after = std::upper_bound(bins.begin(), bins.end(), static_cast<size_t>(place - all.begin()));
  return static_cast<size_t>(after - bins.begin()) - 1;
}

absl::StatusOr<RunSteps> ReadSteps(const std::vector<RunRecord::Stretch>& stretches, int64_t period,
                                   const RunRecord::Places& places, RunRecord* record) {
  RunSteps steps;
  for (const RunRecord::Stretch& stretch : stretches) {
    RETURN_IF_ERROR(record->EachStep(stretch.incarnation, stretch.first, stretch.last,
                                     [&](const StepRow& row) { steps.all.push_back(FactsOf(row)); }));
  }
  if (steps.all.empty()) return steps;
  const size_t bins = std::min(kBins, steps.all.size());
  for (size_t bin = 0; bin < bins; ++bin) steps.bins.push_back(bin * steps.all.size() / bins);
  ASSIGN_OR_RETURN(const int64_t ranks, MostRanks(stretches, record));
  // So many in a row, of every bin; or more, so that some meetings are among them, of fewer bins.
  const auto width = static_cast<size_t>(std::max<int64_t>(2, kRowsLookedAt / (ranks * static_cast<int64_t>(bins))));
  const size_t in_a_row = std::max(width, 2 * static_cast<size_t>(std::max<int64_t>(1, period)));
  const size_t every = (in_a_row + width - 1) / width;
  for (size_t bin = 0; bin < bins; bin += every) {
    const size_t begin = steps.bins[bin], end = steps.BinEnd(std::min(bins - 1, bin + every - 1));
    const size_t some = std::min(in_a_row, end - begin);
    // Anywhere in the bin: at its beginning what happens every so many steps would be seen in all bins or in none.
    StableRandom random(Mix({kPlaceKey, bin}));
    const size_t first = begin + random.Below(end - begin - some + 1);
    RETURN_IF_ERROR(LookAt(first, first + some, places, record, &steps));
  }
  for (auto& [rank, input] : steps.input) {
    const auto count = static_cast<double>(input.steps);
    input.read_s /= count;
    input.decode_s /= count;
    input.ready /= count;
    steps.wait_s[rank] /= count;
  }
  steps.followed = Followed(steps.looked_at);
  SetMeetings(places, period, &steps);
  return steps;
}

}  // namespace lockstep
