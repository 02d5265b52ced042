#include "worker/train/step_times.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"

namespace lockstep {
namespace {

double Seconds(int64_t ns) { return static_cast<double>(ns) * 1e-9; }

}  // namespace

std::vector<Interval> Merge(std::vector<Interval> intervals) {
  std::sort(intervals.begin(), intervals.end(), [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
  std::vector<Interval> merged;
  for (const Interval& interval : intervals) {
    if (interval.end <= interval.begin) continue;
    if (!merged.empty() && interval.begin <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, interval.end);
    } else {
      merged.push_back(interval);
    }
  }
  return merged;
}

int64_t Length(const std::vector<Interval>& merged) {
  int64_t length = 0;
  for (const Interval& interval : merged) length += interval.end - interval.begin;
  return length;
}

int64_t OverlapLength(const std::vector<Interval>& merged, const std::vector<Interval>& other_merged) {
  int64_t length = 0;
  for (size_t i = 0, k = 0; i < merged.size() && k < other_merged.size();) {
    const Interval &a = merged[i], &b = other_merged[k];
    length += std::max<int64_t>(0, std::min(a.end, b.end) - std::max(a.begin, b.begin));
    ++(a.end < b.end ? i : k);
  }
  return length;
}

void FillTimes(const StepMoments& moments, const std::vector<Span>& spans, double last_arrival, const WallClock& wall,
               int64_t* previous_first_ns, StepRecord* record) {
  record->set_start(wall.Seconds(moments.start));
  record->set_clock_error_s(wall.error_s);
  record->set_step_s(Seconds(moments.end - moments.start));
  record->set_data_wait_s(Seconds(moments.data - moments.start));
  record->set_forward_s(Seconds(moments.forward - moments.data));
  record->set_backward_s(Seconds(moments.backward - moments.forward));
  record->set_comm_exposed_s(Seconds(moments.exposed - moments.backward));
  record->set_optimizer_s(Seconds(moments.optimizer - moments.exposed));
  record->set_other_s(Seconds(moments.end - moments.optimizer));
  record->set_arrival(wall.Seconds(moments.arrival));
  if (spans.empty()) return;

  std::vector<Interval> under_way;
  under_way.reserve(spans.size());
  int64_t wire_bytes = 0;
  for (const Span& span : spans) {
    under_way.push_back({span.begin_ns, span.end_ns});
    if (absl::StartsWith(span.name, "bucket.")) wire_bytes += span.wire_bytes;
  }
  const std::vector<Interval> busy = Merge(std::move(under_way));
  const std::vector<Interval> compute = Merge({{moments.data, moments.backward}, {moments.exposed, moments.optimizer}});
  const double wait_s =
      moments.met != 0 ? Seconds(moments.met - moments.arrival) : std::max(0.0, last_arrival - record->arrival());
  record->set_comm_busy_s(Seconds(Length(busy)));
  record->set_comm_overlap_s(Seconds(OverlapLength(busy, compute)));
  record->set_update_wait_s(Seconds(moments.awaited));
  record->set_comm_wait_s(wait_s + record->update_wait_s());
  record->set_comm_transfer_s(std::max(0.0, record->comm_busy_s() - wait_s));
  record->set_wire_bytes(wire_bytes);
  const int64_t first_ns = spans.front().begin_ns;
  if (*previous_first_ns != 0) record->set_comm_interval_s(Seconds(first_ns - *previous_first_ns));
  *previous_first_ns = first_ns;
}

void FillCollectives(const std::vector<Span>& spans, int rank, const WallClock& wall, StepRecord* record) {
  for (const Span& span : spans) {
    CollectiveRecord* collective = record->add_collectives();
    collective->set_seq(span.seq);
    collective->set_name(span.name);
    collective->set_grad_bytes(span.bytes);
    collective->set_wire_bytes(span.wire_bytes);
    collective->set_algorithm(span.algorithm);
    collective->set_arrival(wall.Seconds(span.start_ns));
    collective->set_begin(wall.Seconds(span.begin_ns));
    collective->set_end(wall.Seconds(span.end_ns));
    for (const Message& message : span.messages) {
      MessageRecord* one = collective->add_messages();
      one->set_from(message.sent ? rank : message.peer);
      one->set_to(message.sent ? message.peer : rank);
      one->set_tag(message.tag);
      one->set_bytes(message.bytes);
      one->set_ready(wall.Seconds(message.ready_ns));
      if (!message.sent) one->set_came(wall.Seconds(message.came_ns));
    }
  }
}

}  // namespace lockstep
