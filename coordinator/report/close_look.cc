#include "coordinator/report/close_look.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/statistics.h"
#include "common/base/status.h"
#include "coordinator/report/link_model.h"

namespace lockstep {
namespace {

// Layers and messages are read of so many sampled steps, and of fewer where a step has many spans.
constexpr size_t kMostSteps = 64, kFewestSteps = 4;
constexpr size_t kSpansRead = 200'000;

struct CollectiveSamples {
  ReportCollective row;
  std::vector<double> seconds, algbw, busbw;
  std::set<std::string> timings;
  double wait_s = 0, transfer_s = 0;
};

absl::Status AddCollectives(const std::vector<RunRecord::Stretch>& stretches, RunRecord* record, Report* report) {
  std::map<std::string, CollectiveSamples> by_name;
  std::vector<std::string> order;
  std::vector<double> algbw, busbw;
  for (const RunRecord::Stretch& stretch : stretches) {
    const auto add = [&](const CollectiveRow& row) {
      CollectiveSamples& all = by_name[row.name];
      if (all.seconds.empty()) order.push_back(row.name);
      all.row.set_name(row.name);
      all.row.set_algorithm(row.algorithm);
      all.row.set_grad_bytes(row.grad_bytes);
      all.row.set_wire_bytes(row.wire_bytes);
      all.seconds.push_back(row.transfer_s);
      all.wait_s += row.wait_s;
      all.transfer_s += row.transfer_s;
      all.timings.insert(TimingName(row.timing));
      if (row.algbw <= 0) return;
      all.algbw.push_back(row.algbw);
      all.busbw.push_back(row.busbw);
      if (!absl::StartsWith(row.name, "bucket.")) return;
      algbw.push_back(row.algbw);
      busbw.push_back(row.busbw);
    };
    RETURN_IF_ERROR(record->EachCollective(stretch.incarnation, stretch.first, stretch.last, add));
  }
  for (const std::string& name : order) {
    CollectiveSamples& all = by_name[name];
    const auto count = static_cast<double>(all.seconds.size());
    ReportCollective& row = *report->add_collectives() = all.row;
    row.set_samples(static_cast<int64_t>(all.seconds.size()));
    row.set_p10_s(Percentile(&all.seconds, 0.1));
    row.set_p50_s(Percentile(&all.seconds, 0.5));
    row.set_p90_s(Percentile(&all.seconds, 0.9));
    row.set_wait_s(all.wait_s / count);
    row.set_transfer_s(all.transfer_s / count);
    row.set_algbw(Percentile(&all.algbw, 0.5));
    row.set_busbw(Percentile(&all.busbw, 0.5));
    row.set_timing(all.timings.size() == 1 ? *all.timings.begin() : "both");
  }
  report->mutable_efficiency()->set_algbw(Percentile(&algbw, 0.5));
  report->mutable_efficiency()->set_busbw(Percentile(&busbw, 0.5));
  return absl::OkStatus();
}

// At most so many, evenly spread.
std::vector<RunRecord::Sampled> Some(const std::vector<RunRecord::Sampled>& sampled, size_t most) {
  std::vector<RunRecord::Sampled> some;
  const size_t count = std::min(most, sampled.size());
  for (size_t i = 0; i < count; ++i) some.push_back(sampled[i * sampled.size() / count]);
  return some;
}

void AddLink(const std::string& from, const std::string& to, const std::vector<LinkSample>& samples,
             double clock_error_s, Report* report) {
  const std::optional<LinkFit> fit = FitLink(samples);
  if (!fit.has_value() || fit->bandwidth_error > fit->bandwidth) return;  // messages that are too few, or too small
  ReportLink& link = *report->add_links();
  link.set_from(from);
  link.set_to(to);
  link.set_latency_s(fit->latency_s);
  link.set_latency_error_s(fit->latency_error_s + clock_error_s);
  link.set_bandwidth_bytes_per_s(fit->bandwidth);
  link.set_bandwidth_error(fit->bandwidth_error);
  link.set_samples(static_cast<int64_t>(samples.size()));
}

// Of a library whose messages are not seen: its collectives as a whole, as if each were a message of the bytes that an
// all-reduce has to bring to a host.
absl::Status AddLinkOfWholes(const std::vector<RunRecord::Sampled>& sampled, const RunRecord::Places& places,
                             RunRecord* record, Report* report) {
  std::vector<LinkSample> samples;
  for (const RunRecord::Sampled& one : sampled) {
    std::set<std::string> names;
    const auto launch = places.find(one.incarnation);
    if (launch == places.end()) continue;
    for (const auto& [rank, place] : launch->second) names.insert(place.host);
    if (names.size() < 2) continue;
    const auto hosts = static_cast<double>(names.size());
    const auto add = [&](const CollectiveRow& row) {
      if (row.name == "tail" || row.grad_bytes <= 0 || row.algbw <= 0) return;  // tails stand behind what they overtook
      const auto bytes = static_cast<double>(row.grad_bytes);
      samples.push_back({row.step, true, 2 * (hosts - 1) / hosts * bytes, bytes / row.algbw});
    };
    RETURN_IF_ERROR(record->EachCollective(one.incarnation, one.step, one.step, add));
  }
  AddLink("all hosts", "all hosts", samples, 0, report);
  return absl::OkStatus();
}

absl::Status AddLinks(const std::vector<RunRecord::Sampled>& sampled, const RunSteps& steps,
                      const RunRecord::Places& places, RunRecord* record, Report* report) {
  const std::vector<std::string> hosts(report->run().hosts().begin(), report->run().hosts().end());
  if (hosts.size() < 2) return absl::OkStatus();
  std::map<HostPair, std::vector<LinkSample>> samples;
  double clock_error_s = 0;
  for (const RunRecord::Sampled& one : sampled) {
    const auto launch = places.find(one.incarnation);
    if (launch == places.end()) continue;
    const auto place = [&](int rank) {
      const auto at = launch->second.find(rank);
      if (at == launch->second.end()) return -1;
      return static_cast<int>(std::find(hosts.begin(), hosts.end(), at->second.host) - hosts.begin());
    };
    std::map<HostPair, std::vector<MessageRow>> messages;
    RETURN_IF_ERROR(record->EachMessage(one.incarnation, one.step, [&](const MessageRow& row) {
      messages[{place(row.from), place(row.to)}].push_back(row);
    }));
    std::map<int, double> ends;
    RETURN_IF_ERROR(record->EachCollective(one.incarnation, one.step, one.step,
                                           [&](const CollectiveRow& row) { ends[row.seq] = row.end; }));
    std::map<HostPair, std::vector<LinkSample>> of_step;  // hosts by their places in the report's list
    for (auto& [pair, rows] : messages) of_step[pair] = QueueOf(std::move(rows), ends);
    AddOthersBytes(&of_step);
    for (const auto& [pair, of_pair] : of_step) {
      samples[pair].insert(samples[pair].end(), of_pair.begin(), of_pair.end());
    }
    const StepFacts* const step = steps.Find(one.step);
    if (step != nullptr) clock_error_s += step->clock_error_s / static_cast<double>(sampled.size());
  }
  for (const auto& [pair, of_pair] : samples) {
    const auto [from, to] = pair;
    if (from >= 0 && to >= 0) AddLink(hosts[from], hosts[to], of_pair, clock_error_s, report);
  }
  return samples.empty() ? AddLinkOfWholes(sampled, places, record, report) : absl::OkStatus();
}

// Layers have spans "forward 0 Linear" and "backward 0 Linear".
absl::Status AddLayers(const std::vector<RunRecord::Sampled>& sampled, RunRecord* record, Report* report) {
  std::map<std::string, ReportLayer> by_name;
  std::vector<std::string> order;
  double rank_steps = 0, compute_s = 0, flops = 0;
  for (const RunRecord::Sampled& one : sampled) {
    int rank = -1;
    const auto add = [&](const SpanRow& row) {
      const double seconds = row.span.end() - row.span.start();
      absl::string_view name = row.span.name();
      rank_steps += row.rank != rank ? 1 : 0;
      rank = row.rank;
      if (row.span.thread() != TRACE_THREAD_TRAINER) return;
      if (name == "forward" || name == "backward") compute_s += seconds;
      const bool forward = absl::ConsumePrefix(&name, "forward ");
      if (!forward && !absl::ConsumePrefix(&name, "backward ")) return;
      ReportLayer& layer = by_name[std::string(name)];
      if (layer.name().empty()) order.emplace_back(name);
      layer.set_name(std::string(name));
      if (forward) layer.set_forward_s(layer.forward_s() + seconds);
      if (!forward) layer.set_backward_s(layer.backward_s() + seconds);
      layer.set_flops(layer.flops() + row.span.flops());
      flops += row.span.flops();
    };
    RETURN_IF_ERROR(record->EachSpan(one.incarnation, one.step, add));
  }
  const double looked_at = std::max(1.0, rank_steps);
  for (const std::string& name : order) {
    ReportLayer& layer = *report->add_layers() = by_name[name];
    layer.set_forward_s(layer.forward_s() / looked_at);
    layer.set_backward_s(layer.backward_s() / looked_at);
    layer.set_flops(layer.flops() / looked_at);
  }
  report->mutable_efficiency()->set_flops_per_s(compute_s > 0 ? flops / compute_s : 0);
  return absl::OkStatus();
}

absl::Status AddTimeline(const std::string& which, const RunRecord::Sampled& step, double step_s, RunRecord* record,
                         Report* report) {
  ReportTimeline& timeline = *report->add_timelines();
  timeline.set_which(which);
  timeline.set_step(step.step);
  timeline.set_step_s(step_s);
  double origin = INFINITY;
  const auto add = [&](const SpanRow& row) {
    if (row.span.thread() == TRACE_THREAD_INPUT) return;  // that was long before
    origin = std::min(origin, row.span.thread() == TRACE_THREAD_TRAINER ? row.span.start() : INFINITY);
    TimelineSpan& span = *timeline.add_spans();
    span.set_rank(row.rank);
    span.set_thread(TraceThreadName(row.span.thread()));
    span.set_name(row.span.name());
    span.set_start_s(row.span.start());
    span.set_end_s(row.span.end());
    span.set_arrival_s(row.arrival);
    span.set_seq(row.seq);
  };
  RETURN_IF_ERROR(record->EachSpan(step.incarnation, step.step, add));
  for (TimelineSpan& span : *timeline.mutable_spans()) {
    span.set_start_s(span.start_s() - origin);
    span.set_end_s(span.end_s() - origin);
    span.set_arrival_s(span.seq() >= 0 ? span.arrival_s() - origin : 0);
  }
  return absl::OkStatus();
}

absl::Status AddTimelines(const std::vector<RunRecord::Sampled>& sampled, const RunSteps& steps, RunRecord* record,
                          Report* report) {
  std::vector<std::pair<double, RunRecord::Sampled>> by_length;
  for (const RunRecord::Sampled& one : sampled) {
    const StepFacts* const step = steps.Find(one.step);
    if (step != nullptr) by_length.push_back({step->step_max_s, one});
  }
  if (by_length.empty()) return absl::OkStatus();
  std::sort(by_length.begin(), by_length.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  const auto& [typical_s, typical] = by_length[by_length.size() / 2];
  RETURN_IF_ERROR(AddTimeline("typical", typical, typical_s, record, report));
  return AddTimeline("worst", by_length.back().second, by_length.back().first, record, report);
}

}  // namespace

absl::Status LookClosely(const std::vector<RunRecord::Stretch>& stretches, const RunSteps& steps,
                         const RunRecord::Places& places, RunRecord* record, Report* report) {
  RETURN_IF_ERROR(AddCollectives(stretches, record, report));
  ASSIGN_OR_RETURN(const std::vector<RunRecord::Sampled> sampled,
                   record->SampledSteps(stretches.front().first, stretches.back().last));
  size_t spans = 1;
  if (!sampled.empty()) {
    const RunRecord::Sampled& one = sampled[sampled.size() / 2];
    RETURN_IF_ERROR(record->EachSpan(one.incarnation, one.step, [&](const SpanRow&) { ++spans; }));
  }
  const std::vector<RunRecord::Sampled> some =
      Some(sampled, std::min(kMostSteps, std::max(kFewestSteps, kSpansRead / spans)));
  RETURN_IF_ERROR(AddLinks(some, steps, places, record, report));
  RETURN_IF_ERROR(AddLayers(some, record, report));
  return AddTimelines(sampled, steps, record, report);
}

}  // namespace lockstep
