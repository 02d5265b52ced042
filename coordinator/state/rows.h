#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lockstep/telemetry.pb.h"

namespace lockstep {

// How waiting was told from transfer: by the ranks' arrivals on synchronised clocks, or, where the clocks' error is not
// small against what they measure, by durations: the shortest over the ranks is the transfer, the rest is waiting.
enum class Timing { kArrivals, kDurations };
// As run.db has it.
inline const char* TimingName(Timing timing) { return timing == Timing::kArrivals ? "arrivals" : "durations"; }

// A step over all ranks: a row of `step`. Parts are means over the ranks.
struct StepRow {
  StepRecord mean;  // means of the parts; sums of samples and wire_bytes; collectives and arrival unset
  double time = 0;  // seconds since 1970 at the step's start (earliest rank)
  double loss = 0;  // mean over samples
  double step_max_s = 0;
  Timing timing = Timing::kArrivals;  // of the wait and transfer
  double overlap_ratio = 0;           // sum of overlap over sum of busy
  int last_rank = -1;                 // that arrived last; -1: unknown
  int incarnation = 0;
};

struct RankStepRow {
  StepRecord record;
  int rank = 0;
  int incarnation = 0;
};

struct CollectiveRow {
  int64_t step = 0;
  int seq = 0;
  int incarnation = 0;
  std::string name, algorithm;
  int64_t grad_bytes = 0, wire_bytes = 0;
  double first_arrival = 0, last_arrival = 0, end = 0;
  int last_rank = -1;
  double algbw = 0, busbw = 0;        // bytes/s
  double wait_s = 0, transfer_s = 0;  // means over the ranks
  Timing timing = Timing::kArrivals;
};

// What a rank's thread did in a sampled step: a row of `span`.
struct SpanRow {
  int64_t step = 0;
  int rank = 0, incarnation = 0;
  int number = 0;  // in the step's record, from 0
  SpanRecord span;
  int seq = -1;        // of a collective; -1: none
  double arrival = 0;  // of a collective: handed over by the trainer; else 0
};

// As run.db has it.
inline const char* TraceThreadName(TraceThread thread) {
  return thread == TRACE_THREAD_COMMUNICATION ? "communication" : thread == TRACE_THREAD_INPUT ? "input" : "trainer";
}

struct ClockRow {
  int rank = 0, incarnation = 0;
  ClockRecord clock;
};

// A message of a collective of a sampled step between two hosts: a row of `message`.
struct MessageRow {
  int64_t step = 0;
  int seq = 0, incarnation = 0;
  int number = 0;  // in the step and collective, from 0
  int from = 0, to = 0;
  int64_t bytes = 0;
  double sent = 0;   // handed to MPI by `from`; 0: not known
  double ready = 0;  // `to` had made room for it
  double came = 0;
};

// What was lost of a rank's since its launch: step records, and spans of sampled steps.
struct DroppedRow {
  int rank = 0, incarnation = 0;
  int64_t records = 0, spans = 0;
};

// What the fold has ready for the database: one transaction.
struct TelemetryRows {
  std::vector<StepRow> steps;
  std::vector<RankStepRow> rank_steps;
  std::vector<CollectiveRow> collectives;
  std::vector<SpanRow> spans;
  std::vector<MessageRow> messages;
  std::vector<ClockRow> clocks;
  std::vector<DroppedRow> dropped;
  bool empty() const {
    return steps.empty() && rank_steps.empty() && collectives.empty() && spans.empty() && messages.empty() &&
           clocks.empty() && dropped.empty();
  }
};

}  // namespace lockstep
