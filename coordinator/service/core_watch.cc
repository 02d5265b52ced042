// What follows from time passing.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/service/core.h"
#include "coordinator/service/words.h"

namespace lockstep {
namespace {

constexpr int kMaxNamed = 8;  // ranks, hosts
// How long a stop waits for the end of a step or a checkpoint: this, or several times what the longest so far took; and
// for an evaluation as long as for steps of so many samples.
constexpr absl::Duration kStopPatience = absl::Minutes(2);
constexpr int kStopPatienceTimes = 5;

}  // namespace

void Core::Tick() {
  {
    MutexLock lock(&mutex_);
    if (incarnation_ == 0 || flushed_) return;
    if (!ended_) {
      const absl::Duration now = options_.clock->Monotonic();
      WatchSilence(now);
      WatchJoins(now);
      WatchMaxTime();
      WatchProgress(now);
      Settle();
      WatchJournal(now);
      last_tick_ = now;
    }
    if (!ended_) return;
  }
  recorder_->Flush();
  MutexLock lock(&mutex_);
  flushed_ = true;
  flushed_changed_.NotifyAll();
}

void Core::WatchSilence(absl::Duration now) {
  const absl::Duration limit = std::max(absl::Seconds(20), 40 * options_.heartbeat);
  // Whoever stopped this process for a while made the silence: what was sent meanwhile is still to be read.
  const bool was_away = now - last_tick_ > limit / 4;
  for (const auto& [rank, worker] : state_.workers()) {
    if (!worker.left.empty()) continue;
    std::atomic<int64_t>& heard = pulses_[rank].heard_ns;
    if (was_away) heard.store(absl::ToInt64Nanoseconds(now), std::memory_order_relaxed);
    if (now - absl::Nanoseconds(heard.load(std::memory_order_relaxed)) <= limit) continue;
    if (places_[rank].link != nullptr) std::exchange(places_[rank].link, nullptr)->Drop();
    return Lose(rank, absl::StrCat("nothing was heard of it for ", InSeconds(limit), " after step ",
                                   pulses_[rank].step.load(std::memory_order_relaxed)));
  }
}

std::string Core::MissingRanks() const {
  std::vector<int> missing;
  std::vector<std::string> hosts;
  int count = 0;
  for (int rank = 0; rank < state_.world(); ++rank) {
    if (state_.workers().count(rank) > 0) continue;
    ++count;
    if (static_cast<int>(missing.size()) < kMaxNamed) missing.push_back(rank);
    if (rank >= static_cast<int>(options_.hosts_of_ranks.size())) continue;
    const std::string& host = options_.hosts_of_ranks[rank];
    const bool named = std::find(hosts.begin(), hosts.end(), host) != hosts.end();
    if (!named && static_cast<int>(hosts.size()) < kMaxNamed) hosts.push_back(host);
  }
  const int more = count - static_cast<int>(missing.size());
  return absl::StrCat(count == 1 ? "rank " : "ranks ", absl::StrJoin(missing, ", "),
                      more > 0 ? absl::StrCat(" and ", more, " more") : "", " of ", state_.world(),
                      hosts.empty() ? "" : absl::StrCat(", on ", absl::StrJoin(hosts, ", "), ","),
                      count == 1 ? " has" : " have");
}

std::string Core::StartedWorkers() const {
  const int world = state_.world();
  if (started_ == 0) return "no worker has started";
  if (started_ < world) return absl::StrCat(started_, " of ", world, " workers have started");
  return "all workers have started, and MPI does not bring them together";
}

void Core::WatchJoins(absl::Duration now) {
  if (AllHaveJoined() || state_.failed()) return;
  if (now - begun_ < options_.join_timeout) return;
  Update update;
  update.mutable_failed()->set_rank(-1);
  update.mutable_failed()->set_what(absl::StrCat(MissingRanks(), " not joined within ",
                                                 InSeconds(options_.join_timeout), refused_.empty() ? ": " : "; ",
                                                 refused_.empty() ? StartedWorkers() : refused_));
  Submit(std::move(update));
}

void Core::WatchMaxTime() {
  const double max_time = state_.config().convergence().max_time();
  const double elapsed = state_.ElapsedAt(Now());
  if (max_time <= 0 || elapsed < max_time || state_.stop() || ended_) return;
  Update update;
  update.mutable_time_reached()->set_seconds(elapsed);
  update.mutable_time_reached()->set_step(LastHeardStep());
  Submit(std::move(update));
}

// Workers whose heartbeats go on while they compute for ever keep nobody waiting but a stop.
void Core::WatchProgress(absl::Duration now) {
  const int64_t step = LastHeardStep(), seq = state_.last_seq();
  const bool was_away = now - last_tick_ > kStopPatience / 4;  // whoever stopped this process made the pause
  if (step != progress_step_ || seq != progress_seq_ || uploading_ || was_away) {
    if (progress_seq_ > 0 && !was_away) longest_pause_ = std::max(longest_pause_, now - progress_at_);
    progress_step_ = step;
    progress_seq_ = seq;
    progress_at_ = now;
    return;
  }
  int64_t steps = 1;
  if (state_.EvaluationDue(step)) steps += state_.val_samples() / state_.config().data().global_batch_size();
  const absl::Duration limit = steps * std::max(kStopPatience, kStopPatienceTimes * longest_pause_);
  if (!state_.stop() || state_.failed() || now - progress_at_ < limit) return;
  Update update;
  update.mutable_failed()->set_rank(-1);
  update.mutable_failed()->set_step(step);
  update.mutable_failed()->set_what(absl::StrCat("no rank has come further for ", InSeconds(limit), " since the stop (",
                                                 state_.stop()->rule(), "): all are there and compute, in step ",
                                                 step + 1, " or what follows step ", step));
  Submit(std::move(update));
}

void Core::WatchJournal(absl::Duration now) {
  if (ended_ || journal_error_.ok()) return;
  const absl::Duration patience = absl::Seconds(state_.config().control().timeout());
  if (now - journal_failing_since_ < patience) return;
  RunEnded ended;
  ended.set_exit_code(1);
  ended.set_why(
      absl::StrCat("journal.db could not be written for ", InSeconds(patience), ": ", journal_error_.message()));
  ended.set_seconds(absl::ToDoubleSeconds(now - begun_));
  AnnounceAbort(ended.why());
  End(std::move(ended));
}

}  // namespace lockstep
