#include "coordinator/report/report.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/build_info.h"
#include "common/base/statistics.h"
#include "common/base/status.h"
#include "common/config/config.h"
#include "common/config/inject.h"
#include "coordinator/report/advice.h"
#include "coordinator/report/anatomy.h"
#include "coordinator/report/close_look.h"
#include "coordinator/report/step_reader.h"

namespace lockstep {
namespace {

constexpr size_t kArrivalBins = 24;
constexpr size_t kFewSteps = 10;  // of so few none is left out

// The stretches, cut to steps [first, last]; 0: to the end.
std::vector<RunRecord::Stretch> Cut(std::vector<RunRecord::Stretch> stretches, int64_t first, int64_t last) {
  std::vector<RunRecord::Stretch> cut;
  for (RunRecord::Stretch& stretch : stretches) {
    stretch.first = std::max(stretch.first, first);
    if (last > 0) stretch.last = std::min(stretch.last, last);
    if (stretch.first <= stretch.last) cut.push_back(stretch);
  }
  return cut;
}

// What the verdict is on: the ranks' meetings, without the first steps of launches, which make room for all others. Of
// steps among which none is whole, or which are few: all that there is.
std::vector<StepTimes> Judged(const RunSteps& steps, const std::vector<RunRecord::Stretch>& launches) {
  std::vector<StepTimes> judged = steps.meetings.empty() ? steps.looked_at : steps.meetings;
  if (judged.size() <= kFewSteps) return judged;
  const auto has_first = [&](const StepTimes& step) {
    return std::any_of(launches.begin(), launches.end(), [&](const RunRecord::Stretch& launch) {
      return launch.incarnation == step.incarnation && launch.first > step.step - step.count &&
             launch.first <= step.step;
    });
  };
  judged.erase(std::remove_if(judged.begin(), judged.end(), has_first), judged.end());
  return judged;
}

class Maker {
 public:
  Maker(const RunConfig& config, const ReportRequest& request, RunRecord* record)
      : config_(config), request_(request), record_(record) {}

  absl::StatusOr<Report> Make() {
    ASSIGN_OR_RETURN(outline_, record_->ReadOutline());
    const auto stretches = Cut(outline_.stretches, request_.first_step, request_.last_step);
    ASSIGN_OR_RETURN(steps_, Read(stretches));
    RETURN_IF_ERROR(SetRun());
    if (steps_.all.empty()) return std::move(report_);
    ASSIGN_OR_RETURN(const RunSteps others, Read(OthersThan(steps_.all.front().step, steps_.all.back().step)));
    judged_ = Judged(steps_, outline_.stretches);
    anatomy_ = Analyze(judged_, others.meetings);
    const auto end =
        std::remove_if(anatomy_.lateness.begin(), anatomy_.lateness.end(),
                       [this](const Anatomy::RankLateness& rank) { return steps_.followed.count(rank.rank) == 0; });
    anatomy_.lateness.erase(end, anatomy_.lateness.end());
    ASSIGN_OR_RETURN(rolled_back_s_, record_->RolledBack(steps_.all.front().step, steps_.all.back().step));
    SetParts();
    SetEfficiency();
    RETURN_IF_ERROR(SetRanks());
    SetSeries();
    SetArrivals();
    RETURN_IF_ERROR(SetMetrics());
    RETURN_IF_ERROR(LookClosely(stretches, steps_, outline_.places, record_, &report_));
    for (ReportLink& link : *report_.mutable_links()) link.set_limit_bytes_per_s(request_.link_limit);
    SetFindings();
    return std::move(report_);
  }

 private:
  absl::StatusOr<RunSteps> Read(const std::vector<RunRecord::Stretch>& stretches) {
    return ReadSteps(stretches, config_.communication().period(), outline_.places, record_);
  }
  absl::Status SetRun();
  void SetFaults(ReportRun* run);
  void SetHosts(ReportRun* run);
  void SetParts();
  void SetEfficiency();
  double ScalingEfficiency() const;
  absl::Status SetRanks();
  void SetSeries();
  void SetWaits(ReportSeries* series);
  void SetArrivals();
  absl::Status SetMetrics();
  // The run's steps before `first` and after `last`.
  std::vector<RunRecord::Stretch> OthersThan(int64_t first, int64_t last) const {
    std::vector<RunRecord::Stretch> others;
    if (first > 1) others = Cut(outline_.stretches, 1, first - 1);
    const std::vector<RunRecord::Stretch> after = Cut(outline_.stretches, last + 1, 0);
    others.insert(others.end(), after.begin(), after.end());
    return others;
  }
  // Whether a rank makes its batches more slowly than steps would go without `cause`.
  bool IsSlow(const InputFacts& input, const Finding& cause) const {
    return input.read_s + input.decode_s > anatomy_.step_s - cause.saving_s_per_step();
  }
  bool AllInputsAreSlow(const Finding& cause) const;
  void AddSlowInputs(Finding* cause) const;
  void SetFindings();
  double SinceStart(double time) const { return time - steps_.all.front().time; }
  // Of the step at which something happened, or the last before it.
  double TimeOfStep(int64_t step) const;

  const RunConfig& config_;
  const ReportRequest& request_;
  RunRecord* const record_;
  RunRecord::Outline outline_;
  std::vector<DroppedRow> dropped_;
  double rolled_back_s_ = 0;  // in the range of the steps that are asked for
  RunSteps steps_;
  std::vector<StepTimes> judged_;
  Anatomy anatomy_;
  std::map<int, std::string> host_of_;  // by rank, as last launched
  Report report_;
};

absl::Status Maker::SetRun() {
  ReportRun& run = *report_.mutable_run();
  run.set_name(request_.name);
  run.set_folder(request_.folder);
  run.set_state(request_.state);
  run.set_lockstep(BuildVersion());
  run.set_model(EnumWord(ModelName_descriptor(), config_.model().name()));
  run.set_algorithm(outline_.algorithm.empty() ? EnumWord(Algorithm_descriptor(), config_.communication().algorithm())
                                               : outline_.algorithm);
  run.set_compression(EnumWord(Compression_descriptor(), config_.communication().compression()));
  run.set_period(config_.communication().period());
  run.set_launches(static_cast<int32_t>(outline_.places.size()));
  run.set_global_batch_size(config_.data().global_batch_size());
  SetHosts(&run);
  run.set_unmeasured(config_.profile().off());
  SetFaults(&run);
  ASSIGN_OR_RETURN(dropped_, record_->Dropped());
  for (const DroppedRow& row : dropped_) {
    run.set_dropped(run.dropped() + row.records);
    run.set_left_out(run.left_out() + row.spans);
  }
  run.set_launched(outline_.launched);
  run.set_steps(static_cast<int64_t>(steps_.all.size()));
  run.set_steps_looked_at(static_cast<int64_t>(steps_.looked_at.size()));
  if (steps_.all.empty()) return absl::OkStatus();
  const StepFacts &first = steps_.all.front(), &last = steps_.all.back();
  run.set_first_step(first.step);
  run.set_last_step(last.step);
  run.set_started(first.time);
  run.set_seconds(last.time + last.step_max_s - first.time);
  double seconds = 0, samples = 0;
  for (const StepFacts& step : steps_.all) {
    seconds += step.step_s;
    samples += static_cast<double>(step.samples);
    run.set_clock_error_s(std::max(run.clock_error_s(), step.clock_error_s));
  }
  run.set_samples_per_s(seconds > 0 ? samples / seconds : 0);
  return absl::OkStatus();
}

// With the steps of the launches that had a fault, where others had it not.
void Maker::SetFaults(ReportRun* run) {
  std::map<std::string, std::vector<std::string>> steps_of;
  std::vector<std::string> in_order;
  const std::vector<RunRecord::Stretch> asked = Cut(outline_.stretches, request_.first_step, request_.last_step);
  for (const RunRecord::Stretch& stretch : asked) {
    const auto faults = request_.faults.find(stretch.incarnation);
    if (faults == request_.faults.end()) continue;
    std::set<std::string> of_launch;
    for (const Inject& inject : faults->second) {
      const std::string text = InjectText(inject);
      if (!of_launch.insert(text).second) continue;  // asked for twice
      if (steps_of.count(text) == 0) in_order.push_back(text);
      steps_of[text].push_back(absl::StrCat(stretch.first, " to ", stretch.last));
    }
  }
  for (const std::string& text : in_order) {
    const std::vector<std::string>& steps = steps_of[text];
    const bool always = steps.size() == asked.size();
    run->add_faults(always ? text : absl::StrCat(text, " (of the launch of steps ", absl::StrJoin(steps, ", "), ")"));
  }
}

// Of the launches that made these steps; of a run without steps, of the latest.
void Maker::SetHosts(ReportRun* run) {
  std::set<int> launches;
  for (const StepFacts& step : steps_.all) launches.insert(step.incarnation);
  if (launches.empty() && !outline_.places.empty()) launches.insert(outline_.places.rbegin()->first);
  std::set<std::string> hosts;
  for (const int launch : launches) {
    const std::map<int, RunRecord::Place>& ranks = outline_.places[launch];
    run->set_workers(static_cast<int32_t>(ranks.size()));
    std::map<std::string, int> on_host;
    for (const auto& [rank, place] : ranks) {
      host_of_[rank] = place.host;
      ++on_host[place.host];
      if (hosts.insert(place.host).second) run->add_hosts(place.host);
    }
    int fewest = INT_MAX;
    for (const auto& [rank, place] : ranks) fewest = std::min(fewest, place.cores / on_host[place.host]);
    run->set_cores_per_worker(ranks.empty() ? 0 : fewest);
    run->set_crowded(std::any_of(ranks.begin(), ranks.end(), [&](const auto& one) {
      const RunRecord::Place& place = one.second;
      return place.cores > 0 && place.cores < on_host[place.host] * config_.threads();
    }));
  }
}

// Means over all steps; percentiles over the ranks' steps that were looked at.
void Maker::SetParts() {
  std::array<std::vector<double>, kParts + 1> values;
  for (const StepTimes& step : steps_.looked_at) {
    for (const RankTimes& rank : step.ranks) {
      for (int part = 0; part < kParts; ++part) values[part].push_back(rank.parts[part]);
      values[kParts].push_back(rank.step());
    }
  }
  std::array<double, kParts + 1> means = {};
  for (const StepFacts& step : steps_.all) {
    for (int part = 0; part < kParts; ++part) means[part] += step.parts[part];
    means[kParts] += step.step_s;
  }
  for (int part = 0; part <= kParts; ++part) {
    ReportPart& row = *report_.add_parts();
    row.set_part(part < kParts ? PartName(part) : "step");
    row.set_mean_s(means[part] / static_cast<double>(steps_.all.size()));
    row.set_p50_s(Percentile(&values[part], 0.5));
    row.set_p95_s(Percentile(&values[part], 0.95));
    row.set_share(means[kParts] > 0 ? means[part] / means[kParts] : 0);
  }
}

void Maker::SetEfficiency() {
  ReportEfficiency& efficiency = *report_.mutable_efficiency();
  efficiency = anatomy_.efficiency;
  double busy = 0, overlap = 0, exposed = 0, wait = 0, seconds = 0, interval = 0, intervals = 0;
  for (const StepFacts& step : steps_.all) {
    busy += step.busy_s;
    overlap += step.overlap_s;
    exposed += step.parts[kCommExposed];
    wait += std::min(step.wait_s, step.parts[kCommExposed]);
    seconds += step.step_s;
    interval += step.interval_s;
    intervals += step.interval_s > 0 ? 1 : 0;
  }
  if (intervals > 0) efficiency.set_comm_interval_s(interval / intervals);
  efficiency.set_overlap(busy > 0 ? overlap / busy : 0);
  if (seconds <= 0) return;
  efficiency.set_goodput(seconds / (seconds + rolled_back_s_));
  efficiency.set_scaling(ScalingEfficiency());
  efficiency.set_exposed_share(exposed / seconds);
  efficiency.set_wait_share(wait / seconds);
}

// Ranks that need not wait for each other would make a step each in the time of their own work.
double Maker::ScalingEfficiency() const {
  struct Sums {
    double steps = 0, work_s = 0, step_s = 0;
  };
  std::map<int, Sums> by_rank;
  for (const StepTimes& step : steps_.looked_at) {
    for (const RankTimes& rank : step.ranks) {
      if (steps_.followed.count(rank.rank) == 0) continue;
      Sums& sums = by_rank[rank.rank];
      ++sums.steps;
      sums.work_s += rank.step() - rank.parts[kCommExposed];
      sums.step_s += rank.step();
    }
  }
  double alone = 0, together = 0;  // steps a second, of all ranks
  for (const auto& [rank, sums] : by_rank) {
    alone += sums.steps / sums.work_s;
    together += sums.steps / sums.step_s;
  }
  return together / alone;
}

absl::Status Maker::SetRanks() {
  std::map<int, std::pair<RankTimes, double>> sums;
  for (const StepTimes& step : steps_.looked_at) {
    for (const RankTimes& rank : step.ranks) {
      auto& [sum, count] = sums[rank.rank];
      for (int part = 0; part < kParts; ++part) sum.parts[part] += rank.parts[part];
      ++count;
    }
  }
  for (const Anatomy::RankLateness& lateness : anatomy_.lateness) {
    auto& [mean, count] = sums[lateness.rank];
    for (double& part : mean.parts) part /= count;
    ReportRank& row = *report_.add_ranks();
    row.set_rank(lateness.rank);
    row.set_host(host_of_[lateness.rank]);
    row.set_step_s(mean.step());
    row.set_data_wait_s(mean.parts[kDataWait]);
    row.set_forward_s(mean.parts[kForward]);
    row.set_backward_s(mean.parts[kBackward]);
    row.set_comm_exposed_s(mean.parts[kCommExposed]);
    row.set_optimizer_s(mean.parts[kOptimizer]);
    row.set_other_s(mean.parts[kOther]);
    row.set_comm_wait_s(steps_.wait_s[lateness.rank]);
    row.set_last_share(static_cast<double>(lateness.last) / static_cast<double>(lateness.steps));
    row.set_late_s(lateness.late_s);
    const InputFacts& input = steps_.input[lateness.rank];
    row.set_input_read_s(input.read_s);
    row.set_input_decode_s(input.decode_s);
    row.set_input_ready(input.ready);
  }
  ASSIGN_OR_RETURN(const std::vector<ClockRow> clocks, record_->Clocks());
  for (ReportRank& row : *report_.mutable_ranks()) {
    for (const ClockRow& clock : clocks) {
      if (clock.rank != row.rank()) continue;
      row.set_clock_offset_s(clock.clock.offset_s());
      row.set_clock_error_s(clock.clock.error_s());
    }
    for (const DroppedRow& one : dropped_) {
      if (one.rank == row.rank()) row.set_dropped(row.dropped() + one.records);
    }
  }
  return absl::OkStatus();
}

void Maker::SetSeries() {
  ReportSeries& series = *report_.mutable_series();
  for (size_t bin = 0; bin < steps_.bins.size(); ++bin) {
    StepFacts mean;
    double samples = 0;
    const size_t begin = steps_.bins[bin], end = steps_.BinEnd(bin);
    for (size_t i = begin; i < end; ++i) {
      const StepFacts& step = steps_.all[i];
      for (int part = 0; part < kParts; ++part) mean.parts[part] += step.parts[part];
      mean.step_s += step.step_s;
      mean.step_max_s += step.step_max_s;
      mean.loss += step.loss;
      samples += static_cast<double>(step.samples);
    }
    const auto count = static_cast<double>(end - begin);
    series.add_step(steps_.all[begin].step);
    series.add_time(SinceStart(steps_.all[begin].time));
    series.add_data_wait_s(mean.parts[kDataWait] / count);
    series.add_forward_s(mean.parts[kForward] / count);
    series.add_backward_s(mean.parts[kBackward] / count);
    series.add_comm_exposed_s(mean.parts[kCommExposed] / count);
    series.add_optimizer_s(mean.parts[kOptimizer] / count);
    series.add_other_s(mean.parts[kOther] / count);
    series.add_step_max_s(mean.step_max_s / count);
    series.add_loss(mean.loss / count);
    series.add_samples_per_s(mean.step_s > 0 ? samples / mean.step_s : 0);
  }
  SetWaits(&series);
}

void Maker::SetWaits(ReportSeries* series) {
  if (anatomy_.lateness.size() < 2) return;
  std::map<int, std::vector<std::pair<double, int>>> sums;  // by rank and bin
  for (size_t i = 0; i < judged_.size(); ++i) {
    const std::vector<double> waits = WaitsOf(judged_, i);
    const size_t bin = steps_.BinOf(judged_[i].step);
    for (size_t k = 0; k < waits.size(); ++k) {
      if (steps_.followed.count(judged_[i].ranks[k].rank) == 0) continue;
      auto& bins = sums[judged_[i].ranks[k].rank];
      bins.resize(steps_.bins.size());
      bins[bin].first += waits[k] / static_cast<double>(judged_[i].count);
      ++bins[bin].second;
    }
  }
  for (auto& [rank, bins] : sums) {
    ReportWait& wait = *series->add_waits();
    wait.set_rank(rank);
    for (const auto& [sum, count] : bins) wait.add_wait_s(count > 0 ? sum / count : std::nan(""));
  }
}

void Maker::SetArrivals() {
  if (anatomy_.lateness.size() < 2) return;
  std::vector<double> all;
  for (const Anatomy::RankLateness& rank : anatomy_.lateness) {
    all.insert(all.end(), rank.early_s.begin(), rank.early_s.end());
  }
  const double most = std::max(Percentile(&all, 0.99), 1e-6);  // the rest goes into the last bin
  for (const Anatomy::RankLateness& rank : anatomy_.lateness) {
    ReportArrivals& arrivals = *report_.add_arrivals();
    arrivals.set_rank(rank.rank);
    std::array<int64_t, kArrivalBins> counts = {};
    for (const double early_s : rank.early_s) {
      ++counts[std::min(kArrivalBins - 1, static_cast<size_t>(early_s / most * kArrivalBins))];
    }
    for (size_t bin = 0; bin <= kArrivalBins; ++bin) {
      arrivals.add_edge_s(most * static_cast<double>(bin) / kArrivalBins);
    }
    for (const int64_t count : counts) arrivals.add_count(count);
  }
}

double Maker::TimeOfStep(int64_t step) const {
  const auto after = std::upper_bound(steps_.all.begin(), steps_.all.end(), step,
                                      [](int64_t number, const StepFacts& facts) { return number < facts.step; });
  if (after == steps_.all.begin()) return 0;
  return SinceStart((after - 1)->time + (after - 1)->step_max_s);
}

absl::Status Maker::SetMetrics() {
  ASSIGN_OR_RETURN(const std::vector<EvaluationResult> evaluations, record_->Evaluations());
  for (const EvaluationResult& result : evaluations) {
    const std::map<std::string, double> metrics(result.metrics().begin(), result.metrics().end());
    for (const auto& [name, value] : metrics) {
      ReportMetric& metric = *report_.add_metrics();
      metric.set_step(result.step());
      metric.set_time(TimeOfStep(result.step()) + result.seconds());
      metric.set_split(result.split());
      metric.set_metric(name);
      metric.set_value(value);
    }
  }
  ASSIGN_OR_RETURN(const std::vector<RunRecord::Timed> decisions, record_->Decisions());
  for (const RunRecord::Timed& one : decisions) {
    ReportMark& mark = *report_.add_marks();
    mark.set_time(SinceStart(one.time));
    mark.set_step(one.decision.step());
    mark.set_kind(one.decision.kind());
    mark.set_rule(one.decision.rule());
    mark.set_reason(one.decision.reason());
  }
  return absl::OkStatus();
}

// Where every rank makes its batches more slowly than steps could go, all wait for data, and which of them is last is
// chance.
bool Maker::AllInputsAreSlow(const Finding& cause) const {
  return std::all_of(steps_.input.begin(), steps_.input.end(),
                     [&](const auto& rank) { return IsSlow(rank.second, cause); });
}

// Another rank's slow input hides behind the slowest one's.
void Maker::AddSlowInputs(Finding* cause) const {
  std::set<int> ranks(cause->ranks().begin(), cause->ranks().end());
  std::set<std::string> hosts(cause->hosts().begin(), cause->hosts().end());
  for (const auto& [rank, input] : steps_.input) {
    if (!IsSlow(input, *cause) || !ranks.insert(rank).second) continue;
    const auto host = host_of_.find(rank);
    if (host != host_of_.end() && hosts.insert(host->second).second) cause->add_hosts(host->second);
  }
  cause->clear_ranks();
  for (const int rank : ranks) cause->add_ranks(rank);
}

void Maker::SetFindings() {
  for (Finding& cause : anatomy_.causes) {
    if (cause.cause() == "input-bound" && AllInputsAreSlow(cause)) {  // and of no rank
      cause.clear_ranks();
      cause.clear_hosts();
      cause.clear_persistence();
      cause.clear_steps_share();
    } else if (cause.cause() == "input-bound" && !cause.ranks().empty()) {
      AddSlowInputs(&cause);
    }
    *report_.add_causes() = cause;
  }
  *report_.mutable_verdict() = anatomy_.causes.empty() ? anatomy_.verdict : anatomy_.causes.front();
  AddWordsAndAdvice(config_, anatomy_, &report_);
}

}  // namespace

absl::StatusOr<Report> MakeReport(const RunConfig& config, const ReportRequest& request, RunRecord* record) {
  return Maker(config, request, record).Make();
}

}  // namespace lockstep
