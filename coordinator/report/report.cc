#include "coordinator/report/report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>
#include <vector>

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
// How fast a run computes when nothing slows it down: as in this share of its bins, or faster.
constexpr size_t kComputeBins = 100;
constexpr double kFastShare = 0.2;
constexpr size_t kEnoughOthers = 20;  // steps beside those that are asked for, to compare with

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

// In at most so many bins.
std::vector<double> BinMeans(const std::vector<double>& values, size_t most) {
  const size_t bins = std::min(most, values.size());
  std::vector<double> means(bins, 0);
  for (size_t bin = 0; bin < bins; ++bin) {
    const size_t begin = bin * values.size() / bins, end = (bin + 1) * values.size() / bins;
    for (size_t i = begin; i < end; ++i) means[bin] += values[i] / static_cast<double>(end - begin);
  }
  return means;
}

class Maker {
 public:
  Maker(const RunConfig& config, const ReportRequest& request, RunRecord* record)
      : config_(config), request_(request), record_(record) {}

  absl::StatusOr<Report> Make() {
    ASSIGN_OR_RETURN(outline_, record_->ReadOutline());
    const auto stretches = Cut(outline_.stretches, request_.first_step, request_.last_step);
    ASSIGN_OR_RETURN(steps_, ReadSteps(stretches, record_));
    for (const RunRecord::Rank& rank : outline_.ranks) host_of_[rank.rank] = rank.host;
    RETURN_IF_ERROR(SetRun());
    if (steps_.all.empty()) return std::move(report_);
    anatomy_ = Analyze(steps_.looked_at);
    ASSIGN_OR_RETURN(rolled_back_s_, record_->RolledBack(steps_.all.front().step, steps_.all.back().step));
    SetParts();
    SetEfficiency();
    RETURN_IF_ERROR(SetRanks());
    SetSeries();
    SetArrivals();
    RETURN_IF_ERROR(SetMetrics());
    RETURN_IF_ERROR(LookClosely(stretches, steps_, host_of_, record_, &report_));
    for (ReportLink& link : *report_.mutable_links()) link.set_limit_bytes_per_s(request_.link_limit);
    RETURN_IF_ERROR(FindSlowerComputing());
    SetFindings();
    return std::move(report_);
  }

 private:
  absl::Status SetRun();
  void SetParts();
  void SetEfficiency();
  double ScalingEfficiency() const;
  absl::Status SetRanks();
  void SetSeries();
  void SetWaits(ReportSeries* series);
  void SetArrivals();
  absl::Status SetMetrics();
  absl::Status FindSlowerComputing();
  // The run's steps before `first` and after `last`.
  std::vector<RunRecord::Stretch> OthersThan(int64_t first, int64_t last) const {
    std::vector<RunRecord::Stretch> others;
    if (first > 1) others = Cut(outline_.stretches, 1, first - 1);
    const std::vector<RunRecord::Stretch> after = Cut(outline_.stretches, last + 1, 0);
    others.insert(others.end(), after.begin(), after.end());
    return others;
  }
  bool AllInputsAreSlow(const Finding& cause) const;
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
  Anatomy anatomy_;
  std::map<int, std::string> host_of_;
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
  run.set_workers(static_cast<int32_t>(outline_.ranks.size()));
  run.set_launches(outline_.launches);
  run.set_global_batch_size(config_.data().global_batch_size());
  std::set<std::string> hosts;
  for (const RunRecord::Rank& rank : outline_.ranks) {
    if (hosts.insert(rank.host).second) run.add_hosts(rank.host);
  }
  for (const Inject& inject : config_.inject()) run.add_faults(InjectText(inject));
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
  double busy = 0, overlap = 0, exposed = 0, wait = 0, seconds = 0;
  for (const StepFacts& step : steps_.all) {
    busy += step.busy_s;
    overlap += step.overlap_s;
    exposed += step.parts[kCommExposed];
    wait += std::min(step.wait_s, step.parts[kCommExposed]);
    seconds += step.step_s;
  }
  efficiency.set_overlap(busy > 0 ? overlap / busy : 0);
  if (seconds <= 0) return;
  efficiency.set_goodput(seconds / (seconds + rolled_back_s_));
  efficiency.set_scaling(ScalingEfficiency());
  efficiency.set_exposed_share(exposed / seconds);
  efficiency.set_wait_share(wait / seconds);
}

// Ranks that need not wait for each other would make a step each in the time of their own work.
double Maker::ScalingEfficiency() const {
  std::map<int, double> work_s;
  double step_s = 0;
  for (const StepTimes& step : steps_.looked_at) {
    for (const RankTimes& rank : step.ranks) {
      work_s[rank.rank] += rank.step() - rank.parts[kCommExposed];
      step_s += rank.step();
    }
  }
  const auto ranks = static_cast<double>(work_s.size());
  double alone = 0, together = ranks * ranks / step_s;  // steps of a rank, a second
  for (const auto& [rank, seconds] : work_s) alone += 1 / seconds;
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

// By each rank's own clock: how long before the last one it comes.
void Maker::SetWaits(ReportSeries* series) {
  if (anatomy_.lateness.size() < 2) return;
  std::map<int, std::vector<std::pair<double, int>>> sums;  // by rank and bin
  for (size_t i = 0; i < steps_.looked_at.size(); ++i) {
    const std::vector<double> work = WorkOf(steps_.looked_at, i);
    const double longest = *std::max_element(work.begin(), work.end());
    for (size_t k = 0; k < work.size(); ++k) {
      auto& bins = sums[steps_.looked_at[i].ranks[k].rank];
      bins.resize(steps_.bins.size());
      bins[steps_.bin_of[i]].first += longest - work[k];
      ++bins[steps_.bin_of[i]].second;
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
      metric.set_time(TimeOfStep(result.step()));
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

// Whether computing took longer in these steps than in the run's others or, of a whole run, than in its faster ones, on
// all ranks: a processor that is slowed down or shared shows as that alone.
absl::Status Maker::FindSlowerComputing() {
  std::vector<double> run, others;
  for (const StepFacts& step : steps_.all) run.push_back(step.parts[kForward] + step.parts[kBackward]);
  for (const RunRecord::Stretch& stretch : OthersThan(steps_.all.front().step, steps_.all.back().step)) {
    RETURN_IF_ERROR(record_->EachStep(stretch.incarnation, stretch.first, stretch.last, [&](const StepRow& row) {
      others.push_back(row.mean.forward_s() + row.mean.backward_s());
    }));
  }
  const bool compares = others.size() >= kEnoughOthers;
  std::vector<double> bins = BinMeans(compares ? others : run, kComputeBins);
  const double fast_s = Percentile(&bins, compares ? 0.5 : kFastShare);
  double own_s = 0, slower = 0;
  for (const StepFacts& step : steps_.all) {
    const double compute_s = step.parts[kForward] + step.parts[kBackward];
    own_s += compute_s / static_cast<double>(steps_.all.size());
    slower += compute_s > (1 + kNoticeable / 2) * fast_s ? 1 : 0;
  }
  const double saving_s = own_s - fast_s;
  if (saving_s < kNoticeable * anatomy_.step_s) return absl::OkStatus();
  Finding finding;
  finding.set_cause("compute-bound");
  finding.set_rank(-1);
  finding.set_kind("slower");
  finding.set_saving_s_per_step(saving_s);
  const double half_s = MeanOf(BinMeans(run, kComputeBins)).half;
  finding.set_saving_low_s(saving_s - half_s);
  finding.set_saving_high_s(saving_s + half_s);
  finding.set_confidence(slower / static_cast<double>(steps_.all.size()));
  const auto less = [&](const Finding& other) { return other.saving_s_per_step() < saving_s; };
  anatomy_.causes.insert(std::find_if(anatomy_.causes.begin(), anatomy_.causes.end(), less), finding);
  return absl::OkStatus();
}

// Where every rank makes its batches more slowly than steps could go, all wait for data, and which of them is last is
// chance.
bool Maker::AllInputsAreSlow(const Finding& cause) const {
  const double without_s = anatomy_.step_s - cause.saving_s_per_step();
  return std::all_of(steps_.input.begin(), steps_.input.end(),
                     [without_s](const auto& rank) { return rank.second.read_s + rank.second.decode_s > without_s; });
}

void Maker::SetFindings() {
  for (Finding& cause : anatomy_.causes) {
    if (cause.cause() == "input-bound" && AllInputsAreSlow(cause)) cause.set_rank(-1);
    if (cause.rank() >= 0) cause.set_host(host_of_[cause.rank()]);
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
