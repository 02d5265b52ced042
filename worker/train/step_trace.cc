#include "worker/train/step_trace.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace lockstep {

void StepTrace::Add(TraceThread thread, const std::string& name, int64_t begin_ns, int64_t end_ns, double flops) {
  if (count_ == kMostSpans) {
    ++left_out_;
    return;
  }
  if (entries_.size() == count_) entries_.emplace_back();
  Entry& entry = entries_[count_++];
  entry.thread = thread;
  entry.name.assign(name);
  entry.begin_ns = begin_ns;
  entry.end_ns = end_ns;
  entry.flops = flops;
}

void StepTrace::Forward(const std::string& layer, int64_t begin_ns, int64_t end_ns, double flops) {
  Add(TRACE_THREAD_TRAINER, absl::StrCat("forward ", layer), begin_ns, end_ns, flops);
}

void StepTrace::Backward(const std::string& layer, int64_t begin_ns, int64_t end_ns, double flops) {
  Add(TRACE_THREAD_TRAINER, absl::StrCat("backward ", layer), begin_ns, end_ns, flops);
}

void StepTrace::Fill(const WallClock& wall, StepRecord* record) {
  std::stable_sort(
      entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(count_), [](const Entry& a, const Entry& b) {
        return std::make_tuple(a.thread, a.begin_ns, -a.end_ns) < std::make_tuple(b.thread, b.begin_ns, -b.end_ns);
      });
  for (size_t i = 0; i < count_; ++i) {
    SpanRecord* const span = record->add_spans();
    span->set_thread(entries_[i].thread);
    span->set_name(entries_[i].name);
    span->set_start(wall.Seconds(entries_[i].begin_ns));
    span->set_end(wall.Seconds(entries_[i].end_ns));
    span->set_flops(entries_[i].flops);
  }
  record->set_left_out(left_out_);
}

}  // namespace lockstep
