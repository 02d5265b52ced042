#include "coordinator/state/step_fold.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

namespace lockstep {
namespace {

// recent() looks back so far, and over so many steps at most.
constexpr double kRecentSeconds = 3;
constexpr size_t kRecentSteps = 512;
// A clock's error is small against a duration if it is at most this share of it.
constexpr double kSmallError = 0.1;

// Calls `each` with the getter and setter of every duration that is averaged over the ranks.
template <typename Each>
void ForEachDuration(Each each) {
  each(&StepRecord::step_s, &StepRecord::set_step_s);
  each(&StepRecord::data_wait_s, &StepRecord::set_data_wait_s);
  each(&StepRecord::forward_s, &StepRecord::set_forward_s);
  each(&StepRecord::backward_s, &StepRecord::set_backward_s);
  each(&StepRecord::comm_exposed_s, &StepRecord::set_comm_exposed_s);
  each(&StepRecord::optimizer_s, &StepRecord::set_optimizer_s);
  each(&StepRecord::other_s, &StepRecord::set_other_s);
  each(&StepRecord::comm_busy_s, &StepRecord::set_comm_busy_s);
  each(&StepRecord::comm_overlap_s, &StepRecord::set_comm_overlap_s);
  each(&StepRecord::comm_wait_s, &StepRecord::set_comm_wait_s);
  each(&StepRecord::comm_transfer_s, &StepRecord::set_comm_transfer_s);
  each(&StepRecord::comm_interval_s, &StepRecord::set_comm_interval_s);
  each(&StepRecord::update_wait_s, &StepRecord::set_update_wait_s);
}

Timing TimingOf(double clock_error_s, double duration_s) {
  return clock_error_s <= kSmallError * duration_s ? Timing::kArrivals : Timing::kDurations;
}

// algbw and busbw as nccl-tests defines them, from the last arrival on: before it nothing can be reduced.
void SetBandwidth(int world, double seconds, CollectiveRow* row) {
  if (seconds <= 0) return;
  row->algbw = row->grad_bytes / seconds;
  row->busbw = row->algbw * 2 * (world - 1) / world;
}

// Of a rank, or the means over the ranks: what takes longer than on the rank where it took shortest is waiting.
void SplitByDurations(double shortest_busy_s, StepRecord* record) {
  record->set_comm_wait_s(std::max(0.0, record->comm_busy_s() - shortest_busy_s) + record->update_wait_s());
  record->set_comm_transfer_s(std::min(record->comm_busy_s(), shortest_busy_s));
}

}  // namespace

StepFold::StepFold(int world, int incarnation)
    : world_(world),
      incarnation_(incarnation),
      keep_every_(std::max(1, (world + kMaxKeptRanks - 1) / kMaxKeptRanks)),
      last_step_(world, 0),
      lost_(world) {}

void StepFold::Add(int rank, const StepBatch& batch) {
  if (batch.dropped() > lost_[rank].by_rank) {
    lost_[rank].by_rank = batch.dropped();
    losers_.insert(rank);
  }
  for (const StepRecord& record : batch.steps()) AddRecord(rank, record);
}

void StepFold::AddRecord(int rank, const StepRecord& record) {
  const int64_t step = record.step();
  if (step <= closed_through_ || closed_.count(step) > 0) return;
  last_step_[rank] = std::max(last_step_[rank], step);
  Open& open = open_[step];
  if (open.seen.empty()) open.seen.resize(world_);
  if (open.seen[rank]) return;
  open.seen[rank] = true;
  if (record.left_out() > 0) {
    lost_[rank].spans += record.left_out();
    losers_.insert(rank);
  }
  AddTo(&open, rank, record);
  if (open.ranks == world_) {
    Open complete = std::move(open);
    open_.erase(step);
    Close(step, std::move(complete));
  }
  newest_ = std::max(newest_, step);
  CloseThrough(newest_ - kMaxOpenSteps);
}

void StepFold::AddTo(Open* open, int rank, const StepRecord& record) {
  StepRecord& sum = open->sum;
  if (open->ranks++ == 0) {
    sum.set_step(record.step());
    sum.set_epoch(record.epoch());
    sum.set_lr(record.lr());
    sum.set_grad_norm(record.grad_norm());
    sum.set_grad_bytes(record.grad_bytes());
    open->start = record.start();
  }
  ForEachDuration([&](auto get, auto set) { (sum.*set)((sum.*get)() + (record.*get)()); });
  sum.set_samples(sum.samples() + record.samples());
  sum.set_wire_bytes(sum.wire_bytes() + record.wire_bytes());
  sum.set_loss_sum(sum.loss_sum() + record.loss_sum());
  open->start = std::min(open->start, record.start());
  open->step_max_s = std::max(open->step_max_s, record.step_s());
  if (record.has_clock()) open->clocks.push_back({rank, incarnation_, record.clock()});
  const bool first = open->ranks == 1;
  open->shortest_busy_s = first ? record.comm_busy_s() : std::min(open->shortest_busy_s, record.comm_busy_s());
  open->clock_error_s = std::max(open->clock_error_s, record.clock_error_s());
  if (record.arrival() > 0 && (open->last_rank < 0 || record.arrival() > open->last_arrival)) {
    open->last_arrival = record.arrival();
    open->last_rank = rank;
  }
  if (IsKept(rank)) {
    open->kept[rank] = record;
  } else {
    if (record.arrival() > 0) AddToMost(kLastKept, record.arrival(), rank, record, &open->last);
    AddToMost(kLongestUpdatesKept, record.optimizer_s(), rank, record, &open->longest_updates);
  }
  AddCollectives(open, rank, record);
}

void StepFold::AddToMost(size_t count, double value, int rank, const StepRecord& record, Most* most) {
  const std::pair<double, int> place = {value, rank};
  if (most->size() == count) {
    if (place < most->begin()->first) return;
    most->erase(most->begin());
  }
  most->emplace(place, record);
}

void StepFold::AddCollectives(Open* open, int rank, const StepRecord& record) {
  for (const CollectiveRecord& one : record.collectives()) {
    OpenCollective& all = open->collectives[one.seq()];
    CollectiveRow& row = all.row;
    if (all.ranks++ == 0) {
      row.step = record.step();
      row.seq = one.seq();
      row.incarnation = incarnation_;
      row.name = one.name();
      row.algorithm = one.algorithm();
      row.grad_bytes = one.grad_bytes();
      row.first_arrival = row.last_arrival = one.arrival();
      row.last_rank = rank;
      all.shortest_s = one.end() - one.arrival();
    }
    all.arrivals += one.arrival();
    all.ends += one.end();
    all.shortest_s = std::min(all.shortest_s, one.end() - one.arrival());
    row.wire_bytes += one.wire_bytes();
    row.first_arrival = std::min(row.first_arrival, one.arrival());
    row.end = std::max(row.end, one.end());
    if (one.arrival() > row.last_arrival) {
      row.last_arrival = one.arrival();
      row.last_rank = rank;
    }
  }
}

void StepFold::CloseThrough(int64_t step) {
  if (step <= closed_through_) return;
  while (!open_.empty() && open_.begin()->first <= step) {
    auto first = open_.extract(open_.begin());
    for (int rank = 0; rank < world_; ++rank) {
      if (first.mapped().seen[rank]) continue;
      ++lost_[rank].missing;
      losers_.insert(rank);
    }
    Close(first.key(), std::move(first.mapped()));
  }
  closed_through_ = step;
  closed_.erase(closed_.begin(), closed_.upper_bound(step));
}

void StepFold::Close(int64_t step, Open open) {
  closed_.insert(step);
  while (!closed_.empty() && *closed_.begin() == closed_through_ + 1) {
    ++closed_through_;
    closed_.erase(closed_.begin());
  }
  StepRow row;
  row.mean = open.sum;
  ForEachDuration([&](auto get, auto set) { (row.mean.*set)((open.sum.*get)() / open.ranks); });
  row.time = open.start;
  row.loss = open.sum.samples() > 0 ? open.sum.loss_sum() / open.sum.samples() : 0;
  row.step_max_s = open.step_max_s;
  row.overlap_ratio = open.sum.comm_busy_s() > 0 ? open.sum.comm_overlap_s() / open.sum.comm_busy_s() : 0;
  row.last_rank = open.last_rank;
  row.incarnation = incarnation_;
  row.mean.set_clock_error_s(open.clock_error_s);
  row.timing = TimingOf(open.clock_error_s, row.mean.comm_busy_s());
  if (row.timing == Timing::kDurations) SplitByDurations(open.shortest_busy_s, &row.mean);
  Remember(row);
  if (ready_.steps.size() >= kMaxReady) {
    for (int rank = 0; rank < world_; ++rank) {
      if (!open.seen[rank]) continue;
      ++lost_[rank].untaken;
      losers_.insert(rank);
    }
    return;
  }
  const Timing timing = row.timing;
  ready_.steps.push_back(std::move(row));
  MakeMessageRows(step, open);
  MakeRankRows(step, timing, &open);
  MakeCollectiveRows(&open);
  std::move(open.clocks.begin(), open.clocks.end(), std::back_inserter(ready_.clocks));
}

void StepFold::MakeRankRows(int64_t step, Timing timing, Open* open) {
  for (Most* most : {&open->last, &open->longest_updates}) {
    for (auto& [place, record] : *most) open->kept.emplace(place.second, std::move(record));
  }
  for (auto& [rank, record] : open->kept) {
    if (timing == Timing::kDurations) SplitByDurations(open->shortest_busy_s, &record);
    MakeSpanRows(step, rank, record);
    record.clear_collectives();
    record.clear_spans();
    record.clear_clock();
    ready_.rank_steps.push_back({std::move(record), rank, incarnation_});
  }
}

// What both ranks of a message know of it, put together; one whose receiver has not told of it is left out.
void StepFold::MakeMessageRows(int64_t step, const Open& open) {
  using Pair = std::tuple<int, int, int, int>;  // seq, from, to, tag
  std::map<Pair, std::vector<double>> sent;     // in their order
  for (const auto& [rank, record] : open.kept) {
    for (const CollectiveRecord& collective : record.collectives()) {
      for (const MessageRecord& one : collective.messages()) {
        if (one.from() == rank) sent[{collective.seq(), one.from(), one.to(), one.tag()}].push_back(one.ready());
      }
    }
  }
  std::map<int, int> numbers;  // by seq
  std::map<Pair, size_t> received;
  for (const auto& [rank, record] : open.kept) {
    for (const CollectiveRecord& collective : record.collectives()) {
      for (const MessageRecord& one : collective.messages()) {
        if (one.to() != rank || one.came() == 0) continue;
        const Pair pair = {collective.seq(), one.from(), one.to(), one.tag()};
        const size_t place = received[pair]++;
        const std::vector<double>& times = sent[pair];
        ready_.messages.push_back({step, collective.seq(), incarnation_, numbers[collective.seq()]++, one.from(),
                                   one.to(), one.bytes(), place < times.size() ? times[place] : 0, one.ready(),
                                   one.came()});
      }
    }
  }
}

void StepFold::MakeSpanRows(int64_t step, int rank, const StepRecord& record) {
  int number = 0;
  const auto add = [&](SpanRecord span, int seq, double arrival) {
    ready_.spans.push_back({step, rank, incarnation_, number++, std::move(span), seq, arrival});
  };
  for (const SpanRecord& span : record.spans()) add(span, -1, 0);
  for (const CollectiveRecord& collective : record.collectives()) {
    SpanRecord span;
    span.set_thread(TRACE_THREAD_COMMUNICATION);
    span.set_name(collective.name());
    span.set_start(collective.begin());
    span.set_end(collective.end());
    add(std::move(span), collective.seq(), collective.arrival());
  }
}

// Collectives go one after the other, but for tails: what one stands behind another is neither its waiting for a rank
// nor its transfer.
void StepFold::MakeCollectiveRows(Open* open) {
  double before = 0;  // when the last one ended
  for (auto& [seq, all] : open->collectives) {
    CollectiveRow& row = all.row;
    const bool tail = row.name == "tail";
    const double mean_s = (all.ends - all.arrivals) / all.ranks;
    row.timing = TimingOf(open->clock_error_s, mean_s);
    const bool by_arrivals = row.timing == Timing::kArrivals;
    const double queued_s = tail ? 0 : std::max(0.0, before - row.last_arrival);
    row.wait_s = by_arrivals ? row.last_arrival - all.arrivals / all.ranks : mean_s - all.shortest_s;
    row.transfer_s = std::max(0.0, mean_s - row.wait_s - queued_s);
    SetBandwidth(world_, (by_arrivals ? row.end - row.last_arrival : all.shortest_s) - queued_s, &row);
    if (!tail) before = std::max(before, row.end);
    ready_.collectives.push_back(std::move(row));
  }
}

void StepFold::Remember(const StepRow& row) {
  Point point;
  point.step = row.mean.step();
  point.end = row.time + row.step_max_s;
  point.loss_sum = row.mean.loss_sum();
  point.samples = row.mean.samples();
  point.step_s = row.mean.step_s();
  point.exposed_s = row.mean.comm_exposed_s();
  if (!recent_.empty() && point.step < recent_.back().step) return;
  recent_.push_back(point);
  while (recent_.size() > kRecentSteps || recent_.front().end < point.end - kRecentSeconds) recent_.pop_front();
}

StepFold::Recent StepFold::recent() const {
  Recent recent;
  if (recent_.empty()) return recent;
  Point sum;
  for (const Point& point : recent_) {
    sum.loss_sum += point.loss_sum;
    sum.samples += point.samples;
    sum.step_s += point.step_s;
    sum.exposed_s += point.exposed_s;
  }
  recent.step = recent_.back().step;
  recent.loss = sum.samples > 0 ? sum.loss_sum / sum.samples : 0;
  recent.step_s = sum.step_s / recent_.size();
  if (sum.step_s > 0) {
    recent.samples_per_s = sum.samples / sum.step_s;
    recent.exposed_fraction = sum.exposed_s / sum.step_s;
  }
  return recent;
}

int64_t StepFold::dropped() const {
  int64_t dropped = 0;
  for (const Lost& lost : lost_) dropped += lost.records();
  return dropped;
}

TelemetryRows StepFold::Take() {
  for (const int rank : std::exchange(losers_, {})) {
    ready_.dropped.push_back({rank, incarnation_, lost_[rank].records(), lost_[rank].spans});
  }
  return std::exchange(ready_, TelemetryRows());
}

TelemetryRows StepFold::Flush() {
  while (!open_.empty()) {
    auto first = open_.extract(open_.begin());
    for (int rank = 0; rank < world_; ++rank) {
      // One that has reported a later step; of others the end of the launch may be on its way.
      if (first.mapped().seen[rank] || last_step_[rank] < first.key()) continue;
      ++lost_[rank].missing;
      losers_.insert(rank);
    }
    Close(first.key(), std::move(first.mapped()));
  }
  return Take();
}

}  // namespace lockstep
