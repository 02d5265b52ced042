#include "coordinator/report/chrome_trace.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

using nlohmann::ordered_json;

// Threads' numbers: those of one kind side by side. None is 0, which Perfetto takes for the process's main thread.
constexpr int kLanesEach = 100;

// A span in whole nanoseconds since the first one, so that what nests on the clock nests here.
struct Slice {
  const SpanRow* row = nullptr;
  int64_t begin_ns = 0, end_ns = 0;
  int lane = 0;
};

int64_t Nanos(double seconds, double origin) { return std::llround((seconds - origin) * 1e9); }
double Micros(int64_t ns) { return static_cast<double>(ns) / 1e3; }
int ThreadId(const Slice& slice) { return (slice.row->span.thread() + 1) * kLanesEach + slice.lane; }

std::string ThreadName(int id) {
  const int kind = id / kLanesEach - 1, lane = id % kLanesEach;
  const char* const name = TraceThreadName(static_cast<TraceThread>(kind));
  return lane == 0 ? name : absl::StrCat(name, " ", lane + 1);
}

// Puts the slices of one thread, which are in order, where each either lies within the last one that is open or begins
// after it. No collective is a part of another.
void Nest(std::vector<Slice*>* slices) {
  std::vector<std::vector<Slice*>> open;  // by lane: the slices that hold the next
  for (Slice* slice : *slices) {
    size_t lane = 0;
    for (;; ++lane) {
      if (lane == open.size()) open.emplace_back();
      std::vector<Slice*>& within = open[lane];
      while (!within.empty() && within.back()->end_ns <= slice->begin_ns) within.pop_back();
      if (within.empty() || (slice->row->seq < 0 && slice->end_ns <= within.back()->end_ns)) break;
    }
    slice->lane = static_cast<int>(lane);
    open[lane].push_back(slice);
  }
}

std::vector<Slice> SlicesOf(const std::vector<SpanRow>& spans) {
  double origin = INFINITY;
  for (const SpanRow& row : spans) origin = std::min(origin, row.span.start());
  std::vector<Slice> slices;
  for (const SpanRow& row : spans) {
    slices.push_back({&row, Nanos(row.span.start(), origin), Nanos(row.span.end(), origin), 0});
  }
  std::stable_sort(slices.begin(), slices.end(), [](const Slice& a, const Slice& b) {
    return std::make_tuple(a.row->rank, a.row->span.thread(), a.begin_ns, -a.end_ns) <
           std::make_tuple(b.row->rank, b.row->span.thread(), b.begin_ns, -b.end_ns);
  });
  for (size_t begin = 0, end = 0; begin < slices.size(); begin = end) {
    std::vector<Slice*> thread;
    while (end < slices.size() && slices[end].row->rank == slices[begin].row->rank &&
           slices[end].row->span.thread() == slices[begin].row->span.thread()) {
      thread.push_back(&slices[end++]);
    }
    Nest(&thread);
  }
  return slices;
}

ordered_json Named(const char* what, int rank, int thread, const std::string& name) {
  return {{"ph", "M"}, {"name", what}, {"pid", rank}, {"tid", thread}, {"args", {{"name", name}}}};
}

ordered_json EventOf(const Slice& slice) {
  const SpanRow& row = *slice.row;
  ordered_json arguments = {{"step", row.step}};
  if (row.span.flops() > 0) arguments["flops"] = row.span.flops();
  if (row.seq >= 0) {
    arguments["seq"] = row.seq;
    arguments["handed_over_us_before"] = std::max(0.0, (row.span.start() - row.arrival) * 1e6);
  }
  return {{"ph", "X"},
          {"name", row.span.name()},
          {"cat", row.seq >= 0 ? "collective" : "span"},
          {"pid", row.rank},
          {"tid", ThreadId(slice)},
          {"ts", Micros(slice.begin_ns)},
          {"dur", Micros(slice.end_ns - slice.begin_ns)},
          {"args", arguments}};
}

// Through the slices of one collective, which has the number `id`, in the order in which they began: time only goes on.
void AddFlow(std::vector<const Slice*> slices, int64_t id, ordered_json* events) {
  if (slices.size() < 2) return;
  std::stable_sort(slices.begin(), slices.end(),
                   [](const Slice* a, const Slice* b) { return a->begin_ns < b->begin_ns; });
  for (size_t i = 0; i < slices.size(); ++i) {
    const char* const phase = i == 0 ? "s" : i + 1 == slices.size() ? "f" : "t";
    ordered_json event = {{"ph", phase},
                          {"name", slices[i]->row->span.name()},
                          {"cat", "collective"},
                          {"id", id},
                          {"pid", slices[i]->row->rank},
                          {"tid", ThreadId(*slices[i])},
                          {"ts", Micros(slices[i]->begin_ns)}};
    if (i + 1 == slices.size()) event["bp"] = "e";
    events->push_back(std::move(event));
  }
}

}  // namespace

std::string ChromeTrace(const std::vector<SpanRow>& spans, const std::map<int, std::string>& hosts) {
  const std::vector<Slice> slices = SlicesOf(spans);
  ordered_json events = ordered_json::array();
  std::set<int> ranks;
  std::set<std::pair<int, int>> threads;
  std::map<std::tuple<int, int64_t, int>, std::vector<const Slice*>> collectives;  // by incarnation, step, seq
  for (const Slice& slice : slices) {
    const SpanRow& row = *slice.row;
    if (ranks.insert(row.rank).second) {
      const auto host = hosts.find(row.rank);
      const std::string name = absl::StrCat("rank ", row.rank, host == hosts.end() ? "" : " on " + host->second);
      events.push_back(Named("process_name", row.rank, 0, name));
      events.push_back({{"ph", "M"},
                        {"name", "process_sort_index"},
                        {"pid", row.rank},
                        {"tid", 0},
                        {"args", {{"sort_index", row.rank}}}});
    }
    const int thread = ThreadId(slice);
    if (threads.insert({row.rank, thread}).second)
      events.push_back(Named("thread_name", row.rank, thread, ThreadName(thread)));
    if (row.seq >= 0) collectives[{row.incarnation, row.step, row.seq}].push_back(&slice);
  }
  for (const Slice& slice : slices) events.push_back(EventOf(slice));
  int64_t id = 0;
  for (const auto& [collective, parts] : collectives) AddFlow(parts, ++id, &events);
  const ordered_json trace = {{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}};
  return trace.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace lockstep
