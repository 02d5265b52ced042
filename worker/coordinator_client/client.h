#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/credentials/credentials.h"
#include "lockstep/control.pb.h"

namespace lockstep {

// What the trainer knows of the coordinator; a test brings its own. Threading is said at each method. Every wait has a
// deadline; errors name the coordinator's address and for how long it has been silent.
class CoordinatorLink {
 public:
  virtual ~CoordinatorLink() = default;

  // Trainer. The last step that may be taken now; asks for more by itself when half of what it holds is used
  // (`step`: the last one completed).
  virtual int64_t GrantedThrough(int64_t step) = 0;
  // Trainer. Blocks until `step` is granted. Cancelled: told to abort (the reason), DeadlineExceeded: nothing came,
  // Unavailable, at once: the coordinator is gone. What was granted before stays granted. OutOfRange: beyond the plan.
  virtual absl::Status WaitForGrant(int64_t step, absl::Duration timeout) = 0;
  virtual bool EvaluationDue(int64_t step) = 0;
  virtual bool CheckpointDue(int64_t step) = 0;
  virtual int64_t final_step() = 0;

  // Any thread, every step: the highest directive number that this rank holds; an atomic load.
  virtual int64_t HeldDirective() = 0;
  virtual Directive GetDirective(int64_t number) = 0;  // number in [1, HeldDirective()]
  // Any thread, every step: OK, or Cancelled with the coordinator's reason to leave at once (it said so, or it refuses
  // this worker). A coordinator that is gone is no such reason. An atomic load.
  virtual absl::Status Alive() = 0;

  // Trainer. Hands the record to a preallocated ring that a reporter thread empties; never blocks, never allocates
  // beyond the record. Full: dropped and counted.
  virtual void Report(StepRecord&& record) = 0;

  // Trainer. Sent at once, in order with each other.
  virtual void SendEvaluation(const EvaluationResult& result) = 0;
  virtual void SendEpochDone(const EpochDone& done) = 0;
  virtual void SendFailed(const Failed& failed) = 0;
  virtual void SendBuckets(const BucketsMeasured& measured) = 0;
  virtual void SendCommunication(const CommunicationChosen& chosen) = 0;
  virtual void SendCheckpointDue(const lockstep::CheckpointDue& due) = 0;
  // Any thread (a signal was seen).
  virtual void SendStopRequested(const StopRequested& request) = 0;
  virtual absl::StatusOr<Verdict> WaitForVerdict(int64_t step, absl::Duration timeout) = 0;

  // The checkpoint's writer thread (rank 0). `next` fills its argument with the following bytes, empty at the end.
  using ChunkSource = std::function<absl::StatusOr<absl::string_view>()>;
  virtual absl::StatusOr<CheckpointCommitted> UploadCheckpoint(const CheckpointChunk::Header& header,
                                                               const ChunkSource& next) = 0;
  // Rank 0, before training. The files by name.
  struct Downloaded {
    CheckpointChunk::Header header;
    std::vector<std::string> files;  // contents, in the header's order
  };
  virtual absl::StatusOr<Downloaded> DownloadCheckpoint() = 0;

  // Returns once the coordinator has told this worker to leave at once, or cannot any more; at the latest after
  // `timeout`.
  virtual void WaitForAbort(absl::Duration timeout) = 0;
  // Sends what is left, says why, ends the stream. Waits at most `timeout`.
  virtual void Leave(const Leaving& leaving, absl::Duration timeout) = 0;
};

struct ClientOptions {
  std::string address;  // host:port
  Credentials credentials;
  absl::Duration connect_timeout = absl::Seconds(20);  // GetRun and Join, until the coordinator answers
  absl::Duration stall_timeout = absl::Minutes(5);     // how long a checkpoint's transfer may stand still
  int report_slots = 4096;                             // step records held for the reporter thread; a power of two
};

// First call of a worker; then Join. Both wait for a coordinator that is not there yet. DeadlineExceeded: nobody has
// answered within connect_timeout. Else the coordinator's own refusal, with its address.
absl::StatusOr<GetRunReply> GetRun(const ClientOptions& options);
absl::StatusOr<std::unique_ptr<CoordinatorLink>> Join(const ClientOptions& options, const JoinRequest& request);

}  // namespace lockstep
