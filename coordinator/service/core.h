#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "coordinator/service/event_log.h"
#include "coordinator/service/recorder.h"
#include "coordinator/state/run_state.h"
#include "coordinator/store/journal.h"
#include "lockstep/control.pb.h"

namespace lockstep {

// The way to a worker: the outgoing side of its stream. Called with the core's lock held, so it never blocks and never
// calls back.
class WorkerLink {
 public:
  virtual ~WorkerLink() = default;
  virtual void Send(std::shared_ptr<const CoordinatorMessage> message) = 0;
  // Breaks the connection.
  virtual void Drop() = 0;
};

struct CoreOptions {
  std::string folder;
  int world = 1;
  absl::Duration join_timeout, heartbeat;
  std::vector<std::string> hosts_of_ranks;  // as ServerOptions
  Clock* clock = nullptr;
  // Asks for a Tick soon; never blocks.
  std::function<void()> wake = [] {};
};

// What the coordinator does, without sockets: lock → validate → journal → apply → decide → answer. Thread-safe.
//
// A fact that cannot be journaled is not answered: a caller gets UNAVAILABLE, a worker's message waits and is tried
// again with every Tick, in order; past control.timeout the run fails. Reports and heartbeats take no part in this:
// they go to the recorder and cost the same whatever the world.
class Core {
 public:
  // `state` is what the journal's replay gave. `recorder` outlives the core.
  Core(CoreOptions options, std::unique_ptr<Journal> journal, RunState state, Recorder* recorder);

  // Starts the incarnation; before it every call is answered UNAVAILABLE.
  absl::Status Begin(RunStarted started);

  // The calls of control.proto.
  absl::StatusOr<GetRunReply> GetRun();
  absl::StatusOr<JoinReply> Join(const JoinRequest& request);
  absl::StatusOr<RequestReply> RequestStop(StopRequested request);
  absl::StatusOr<RequestReply> RequestCheckpoint(CheckpointRequested request);
  StatusReply GetStatus(int64_t after_event);

  // A worker's stream: Attach with its first message, which is then received like the others; Detach when it has ended,
  // after which `link` is not used any more. False: it said Leaving, and the stream is over. An error ends it as well.
  absl::Status Attach(int rank, int incarnation, WorkerLink* link);
  absl::StatusOr<bool> Receive(int rank, const WorkerMessage& message);
  void Detach(int rank, const WorkerLink* link);

  // A checkpoint's upload: one at a time, from a BeginUpload that is OK to EndUpload. It returns what belongs into
  // state.json.
  absl::StatusOr<CheckpointState> BeginUpload(const CheckpointChunk::Header& header);
  absl::Status CommitCheckpoint(const CheckpointCommitted& committed);
  void EndUpload();

  // The run survives it: decides a warning, or notes it when that cannot be journaled.
  void ReportProblem(const std::string& rule, const std::string& what, int64_t step);
  void Note(const std::string& text);

  void AskToStop(const std::string& by, bool signal);
  void Abort(const std::string& why);

  // A few times a second: what follows from time passing. Flushes the recorder once the run has ended.
  void Tick();
  bool WaitUntilEnded(absl::Duration timeout);
  RunEnded ended();  // once ended

  int keep_last();

 private:
  static constexpr size_t kMaxBacklog = 100000;

  // What is known of a worker without the lock.
  struct Pulse {
    std::atomic<int64_t> heard_ns{0};
    std::atomic<int64_t> step{0};
  };
  struct Place {
    WorkerLink* link = nullptr;
    bool attended = false;
    std::string compute, warning;  // as it joined
  };

  // Journaling (core.cc).
  absl::Status Record(Update update) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status DecideAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RecordNow(Update update) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Submit(Update fact) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Settle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status DrainBacklog() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckNext(Update update) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Applied(const Update& update) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AppliedWorkerJoined(const Update& update) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // What the workers are told (core_announce.cc).
  void Announce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AnnounceVerdict() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendLastVerdict() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // to rank 0, if it attends
  void AnnounceAbort(const std::string& reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AnswerGrantRequests() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Broadcast(CoordinatorMessage message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const Grant& GrantAfter(int64_t after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status MaybeEnd() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(RunEnded ended) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Workers' messages (core_receive.cc).
  absl::Status TakeReports(int rank, const StepBatch& batch);
  absl::Status TakeFact(int rank, const WorkerMessage& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeEvaluation(const EvaluationResult& result) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeEpochDone(const EpochDone& done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeGrantRequest(int rank, int64_t through) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeFailed(int rank, const Failed& failed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeBuckets(const BucketsMeasured& measured) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeCommunication(const CommunicationChosen& chosen) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeCheckpointDue(const CheckpointDue& due) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Lose(int rank, const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Hear(int rank, int64_t step);
  // The last step that any worker has told of.
  int64_t LastHeardStep() const;

  // Time passing (core_watch.cc).
  void WatchSilence(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WatchJoins(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WatchMaxTime() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WatchProgress(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WatchJournal(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool AllHaveJoined() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<int>(state_.workers().size()) == state_.world();
  }
  std::string MissingRanks() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // How far those have come that have not joined: whether their processes are there.
  std::string StartedWorkers() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // For people (core_status.cc).
  void HoldEpochLine(const EpochDone& done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EmitEpochLine(const EvaluationResult* evaluation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const char* Phase(int64_t step) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DescribeProgress(StatusReply* reply) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DescribeWorkers(StatusReply* reply) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  double Now() const { return UnixSeconds(options_.clock->Now()); }

  const CoreOptions options_;
  Recorder* const recorder_;
  std::vector<Pulse> pulses_;        // by rank
  std::atomic<int> incarnation_{0};  // what state_ has, to check messages without the lock
  std::atomic<int64_t> granted_{0};

  Mutex mutex_;
  CondVar flushed_changed_;
  const std::unique_ptr<Journal> journal_ ABSL_PT_GUARDED_BY(mutex_);
  RunState state_ ABSL_GUARDED_BY(mutex_);
  std::vector<Place> places_ ABSL_GUARDED_BY(mutex_);  // by rank
  EventLog events_ ABSL_GUARDED_BY(mutex_);
  std::deque<Update> backlog_ ABSL_GUARDED_BY(mutex_);  // facts that are not in the journal yet
  absl::Status journal_error_ ABSL_GUARDED_BY(mutex_);  // of the last attempt
  absl::Duration journal_failing_since_ ABSL_GUARDED_BY(mutex_);
  size_t directives_sent_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<Verdict> last_verdict_ ABSL_GUARDED_BY(mutex_);
  std::map<int, int64_t> grant_requests_ ABSL_GUARDED_BY(mutex_);  // rank → what it holds, until it got more
  Grant grant_ ABSL_GUARDED_BY(mutex_);                            // the last one made: most ranks ask for the same
  int64_t grant_reached_ ABSL_GUARDED_BY(mutex_) = -1;             // granted_through when it was made
  std::optional<EpochLine> epoch_line_ ABSL_GUARDED_BY(mutex_);    // waits for the evaluation at its step
  int started_ ABSL_GUARDED_BY(mutex_) = 0;                        // workers that have asked what to do
  std::string refused_ ABSL_GUARDED_BY(mutex_);                    // the last that may not join, and why
  bool uploading_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration begun_ ABSL_GUARDED_BY(mutex_), last_tick_ ABSL_GUARDED_BY(mutex_);
  // WatchProgress: how far ranks and journal were when something last went on, when that was, the longest wait for it.
  int64_t progress_step_ ABSL_GUARDED_BY(mutex_) = 0, progress_seq_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration progress_at_ ABSL_GUARDED_BY(mutex_), longest_pause_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Duration> aborted_ ABSL_GUARDED_BY(mutex_);  // when the workers were told to
  std::optional<RunEnded> ended_ ABSL_GUARDED_BY(mutex_);
  bool flushed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lockstep
