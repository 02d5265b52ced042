#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lockstep/telemetry.pb.h"
#include "worker/model/layer_watch.h"
#include "worker/train/run_clock.h"

namespace lockstep {

// The spans of one step that is looked at closely, in memory that is used again from step to step. Trainer's thread.
class StepTrace : public LayerWatch {
 public:
  // Forgets the last step's.
  void Begin() { count_ = left_out_ = 0; }
  // Nanoseconds of MonotonicNanos; of one thread in the order of their beginnings. More than kMostSpans: left out, and
  // counted.
  void Add(TraceThread thread, const std::string& name, int64_t begin_ns, int64_t end_ns, double flops = 0);
  void Forward(const std::string& layer, int64_t begin_ns, int64_t end_ns, double flops) override;
  void Backward(const std::string& layer, int64_t begin_ns, int64_t end_ns, double flops) override;
  // By thread, then by their beginnings; what holds others comes before them.
  void Fill(const WallClock& wall, StepRecord* record);

  static constexpr size_t kMostSpans = 4096;

 private:
  struct Entry {
    TraceThread thread = TRACE_THREAD_TRAINER;
    std::string name;
    int64_t begin_ns = 0, end_ns = 0;
    double flops = 0;
  };
  std::vector<Entry> entries_;  // the first count_; the rest is kept for its memory
  size_t count_ = 0;
  int32_t left_out_ = 0;
};

}  // namespace lockstep
