#include "worker/coordinator_client/client.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "worker/coordinator_client/attend_stream.h"
#include "worker/coordinator_client/channel.h"
#include "worker/coordinator_client/grant_book.h"
#include "worker/coordinator_client/report_ring.h"
#include "worker/coordinator_client/transfer.h"

namespace lockstep {
namespace {

constexpr absl::Duration kLongestReportPeriod = absl::Milliseconds(250);
constexpr absl::Duration kRetryPause = absl::Milliseconds(50);

class Link : public CoordinatorLink {
 public:
  Link(ClientOptions options, std::shared_ptr<grpc::Channel> channel, const JoinRequest& request,
       const JoinReply& reply);

  int64_t GrantedThrough(int64_t step) override;
  absl::Status WaitForGrant(int64_t step, absl::Duration timeout) override;
  bool EvaluationDue(int64_t step) override;
  bool CheckpointDue(int64_t step) override;
  int64_t final_step() override;
  int64_t HeldDirective() override { return held_.load(std::memory_order_acquire); }
  Directive GetDirective(int64_t number) override;
  absl::Status Alive() override;
  void Report(StepRecord&& record) override;
  void SendEvaluation(const EvaluationResult& result) override;
  void SendEpochDone(const EpochDone& done) override;
  void SendFailed(const Failed& failed) override;
  void SendBuckets(const BucketsMeasured& measured) override;
  void SendCommunication(const CommunicationChosen& chosen) override;
  void SendCheckpointDue(const lockstep::CheckpointDue& due) override;
  void SendStopRequested(const StopRequested& request) override;
  absl::StatusOr<Verdict> WaitForVerdict(int64_t step, absl::Duration timeout) override;
  absl::StatusOr<CheckpointCommitted> UploadCheckpoint(const CheckpointChunk::Header& header,
                                                       const ChunkSource& next) override;
  absl::StatusOr<Downloaded> DownloadCheckpoint() override;
  void WaitForAbort(absl::Duration timeout) override;
  void Leave(const Leaving& leaving, absl::Duration timeout) override { stream_->Leave(leaving, timeout); }

 private:
  void OnMessage(const CoordinatorMessage& message);
  void OnEnd(const grpc::Status& status);
  void TakeGrant(const Grant& grant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeDirective(const Directive& directive) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AskForMore();
  // Until `ready` says so; else why not. `what`: "step 257 is not granted".
  template <typename Ready>
  absl::Status WaitUntil(Ready ready, absl::Duration timeout, const std::string& what)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ClientOptions options_;
  const std::shared_ptr<grpc::Channel> channel_;
  const int32_t incarnation_;
  ReportRing ring_;
  std::atomic<int64_t> completed_{0};
  std::atomic<int64_t> granted_{0};
  std::atomic<int64_t> ask_at_{0};
  std::atomic<int64_t> held_{0};
  std::atomic<int64_t> heard_ns_;
  std::atomic<bool> told_to_leave_{false};

  Mutex mutex_;
  CondVar changed_;
  GrantBook book_ ABSL_GUARDED_BY(mutex_);
  std::vector<Directive> directives_ ABSL_GUARDED_BY(mutex_);  // number n at n - 1
  std::map<int64_t, Verdict> verdicts_ ABSL_GUARDED_BY(mutex_);
  absl::Status leave_ ABSL_GUARDED_BY(mutex_);  // Cancelled: at once
  absl::Status gone_ ABSL_GUARDED_BY(mutex_);   // Unavailable: the stream has ended
  std::unique_ptr<AttendStream> stream_;        // last: its threads use the rest
};

Link::Link(ClientOptions options, std::shared_ptr<grpc::Channel> channel, const JoinRequest& request,
           const JoinReply& reply)
    : options_(std::move(options)),
      channel_(std::move(channel)),
      incarnation_(request.incarnation()),
      ring_(options_.report_slots),
      heard_ns_(MonotonicNanos()) {
  {
    MutexLock lock(&mutex_);
    TakeGrant(reply.grant());
  }
  completed_ = std::max<int64_t>(0, reply.grant().first_step() - 1);
  AttendStream::Options stream;
  stream.client = options_;
  stream.rank = request.rank();
  stream.incarnation = request.incarnation();
  stream.period = kLongestReportPeriod;
  if (reply.heartbeat_s() > 0) stream.period = std::min(stream.period, absl::Seconds(reply.heartbeat_s()));
  stream.ring = &ring_;
  stream.step = [this] { return completed_.load(std::memory_order_relaxed); };
  stream.on_message = [this](const CoordinatorMessage& message) { OnMessage(message); };
  stream.on_end = [this](const grpc::Status& status) { OnEnd(status); };
  stream_ = std::make_unique<AttendStream>(channel_, std::move(stream));
}

// --- what comes in

void Link::OnMessage(const CoordinatorMessage& message) {
  heard_ns_.store(MonotonicNanos(), std::memory_order_relaxed);
  MutexLock lock(&mutex_);
  switch (message.kind_case()) {
    case CoordinatorMessage::kGrant:
      TakeGrant(message.grant());
      break;
    case CoordinatorMessage::kDirective:
      TakeDirective(message.directive());
      break;
    case CoordinatorMessage::kVerdict:
      verdicts_[message.verdict().step()] = message.verdict();
      break;
    case CoordinatorMessage::kAbort:
      leave_ = absl::CancelledError(message.abort().reason());
      told_to_leave_.store(true, std::memory_order_release);
      break;
    case CoordinatorMessage::KIND_NOT_SET:
      break;
  }
  changed_.NotifyAll();
}

void Link::TakeGrant(const Grant& grant) {
  book_.Add(grant);
  ask_at_.store(book_.AskAt(), std::memory_order_relaxed);
  granted_.store(book_.through(), std::memory_order_release);
}

// They are numbered without gaps; one that comes again is the same.
void Link::TakeDirective(const Directive& directive) {
  if (directive.number() != static_cast<int64_t>(directives_.size()) + 1) return;
  directives_.push_back(directive);
  held_.store(directive.number(), std::memory_order_release);
}

void Link::OnEnd(const grpc::Status& status) {
  MutexLock lock(&mutex_);
  if (IsRefusal(status)) {
    leave_ = absl::CancelledError(
        absl::StrCat("the coordinator at ", options_.address, " refuses this worker: ", status.error_message()));
    told_to_leave_.store(true, std::memory_order_release);
  }
  gone_ = absl::UnavailableError(
      absl::StrCat("the coordinator at ", options_.address,
                   " is gone: ", status.ok() ? std::string("it has ended the connection") : status.error_message()));
  changed_.NotifyAll();
}

// --- what the trainer asks

int64_t Link::GrantedThrough(int64_t step) {
  completed_.store(step, std::memory_order_relaxed);
  if (step >= ask_at_.load(std::memory_order_relaxed)) AskForMore();
  return granted_.load(std::memory_order_acquire);
}

void Link::AskForMore() {
  WorkerMessage message;
  {
    MutexLock lock(&mutex_);
    if (completed_ < book_.AskAt()) return;
    message.mutable_grant_request()->set_through_step(book_.Ask());
    ask_at_.store(book_.AskAt(), std::memory_order_relaxed);
    book_.Forget(completed_);
  }
  stream_->Send(std::move(message));
}

template <typename Ready>
absl::Status Link::WaitUntil(Ready ready, absl::Duration timeout, const std::string& what) {
  const int64_t until_ns = MonotonicNanos() + absl::ToInt64Nanoseconds(timeout);
  for (;;) {
    if (!leave_.ok()) return leave_;
    if (ready()) return absl::OkStatus();
    if (!gone_.ok()) return Annotate(gone_, what);
    const int64_t now_ns = MonotonicNanos();
    if (now_ns >= until_ns) {
      const absl::Duration silent =
          absl::Trunc(absl::Nanoseconds(now_ns - heard_ns_.load(std::memory_order_relaxed)), absl::Milliseconds(100));
      return absl::DeadlineExceededError(absl::StrCat(what, ": the coordinator at ", options_.address,
                                                      " has been silent for ", absl::FormatDuration(silent)));
    }
    changed_.WaitFor(&mutex_, absl::Nanoseconds(until_ns - now_ns));
  }
}

absl::Status Link::WaitForGrant(int64_t step, absl::Duration timeout) {
  if (GrantedThrough(step - 1) >= step) return Alive();
  MutexLock lock(&mutex_);
  if (step > book_.final_step()) {
    return absl::OutOfRangeError(absl::StrCat("step ", step, " lies beyond the plan's last, ", book_.final_step()));
  }
  return WaitUntil([this, step]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return book_.through() >= step; }, timeout,
                   absl::StrCat("step ", step, " is not granted"));
}

absl::StatusOr<Verdict> Link::WaitForVerdict(int64_t step, absl::Duration timeout) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(WaitUntil([this, step]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return verdicts_.count(step) > 0; },
                            timeout, absl::StrCat("no verdict on the evaluation at step ", step)));
  verdicts_.erase(verdicts_.begin(), verdicts_.lower_bound(step));
  return verdicts_.at(step);
}

void Link::WaitForAbort(absl::Duration timeout) {
  MutexLock lock(&mutex_);
  WaitUntil([] { return false; }, timeout, "waiting for the coordinator's word to leave").IgnoreError();
}

bool Link::EvaluationDue(int64_t step) {
  MutexLock lock(&mutex_);
  return book_.EvaluationDue(step);
}

bool Link::CheckpointDue(int64_t step) {
  MutexLock lock(&mutex_);
  return book_.CheckpointDue(step);
}

int64_t Link::final_step() {
  MutexLock lock(&mutex_);
  return book_.final_step();
}

Directive Link::GetDirective(int64_t number) {
  MutexLock lock(&mutex_);
  return directives_.at(number - 1);
}

absl::Status Link::Alive() {
  if (!told_to_leave_.load(std::memory_order_acquire)) return absl::OkStatus();
  MutexLock lock(&mutex_);
  return leave_;
}

// --- what goes out

void Link::Report(StepRecord&& record) {
  completed_.store(record.step(), std::memory_order_relaxed);
  ring_.Put(&record);
}

void Link::SendEvaluation(const EvaluationResult& result) {
  WorkerMessage message;
  *message.mutable_evaluated() = result;
  stream_->Send(std::move(message));
}

void Link::SendEpochDone(const EpochDone& done) {
  WorkerMessage message;
  *message.mutable_epoch_done() = done;
  stream_->Send(std::move(message));
}

void Link::SendFailed(const Failed& failed) {
  WorkerMessage message;
  *message.mutable_failed() = failed;
  stream_->Send(std::move(message));
}

void Link::SendBuckets(const BucketsMeasured& measured) {
  WorkerMessage message;
  *message.mutable_buckets_measured() = measured;
  stream_->Send(std::move(message));
}

void Link::SendCommunication(const CommunicationChosen& chosen) {
  WorkerMessage message;
  *message.mutable_communication_chosen() = chosen;
  stream_->Send(std::move(message));
}

void Link::SendCheckpointDue(const lockstep::CheckpointDue& due) {
  WorkerMessage message;
  *message.mutable_checkpoint_due() = due;
  stream_->Send(std::move(message));
}

void Link::SendStopRequested(const StopRequested& request) {
  WorkerMessage message;
  *message.mutable_stop_requested() = request;
  stream_->Send(std::move(message));
}

absl::StatusOr<CheckpointCommitted> Link::UploadCheckpoint(const CheckpointChunk::Header& header,
                                                           const ChunkSource& next) {
  return Upload(channel_, options_, header, next);
}

absl::StatusOr<CoordinatorLink::Downloaded> Link::DownloadCheckpoint() {
  return Download(channel_, options_, incarnation_);
}

// A call that waits for a coordinator which is starting, up to connect_timeout.
template <typename Call>
absl::Status CallUntilAnswered(const ClientOptions& options, const std::shared_ptr<grpc::Channel>& channel, Call call) {
  const absl::Time until = absl::Now() + options.connect_timeout;
  grpc::Status status;
  do {
    grpc::ClientContext context;
    AddToken(options, &context);
    context.set_wait_for_ready(true);
    context.set_deadline(absl::ToChronoTime(until));
    status = call(&context);
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE) break;
    absl::SleepFor(kRetryPause);
  } while (absl::Now() < until);
  if (status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED) return FromGrpc(options, status);
  const bool connected = channel->GetState(false) == GRPC_CHANNEL_READY;
  return absl::DeadlineExceededError(
      absl::StrCat("the coordinator at ", options.address,
                   connected ? " takes connections and does not answer" : " cannot be reached", " after ",
                   absl::FormatDuration(options.connect_timeout),
                   connected ? "" : "; check that lockstep serve runs there and that --coordinator is its address"));
}

}  // namespace

absl::StatusOr<GetRunReply> GetRun(const ClientOptions& options) {
  const std::shared_ptr<grpc::Channel> channel = NewChannel(options);
  const std::unique_ptr<Coordinator::Stub> stub = Coordinator::NewStub(channel);
  GetRunReply reply;
  RETURN_IF_ERROR(CallUntilAnswered(
      options, channel, [&](grpc::ClientContext* context) { return stub->GetRun(context, GetRunRequest(), &reply); }));
  return reply;
}

absl::StatusOr<std::unique_ptr<CoordinatorLink>> Join(const ClientOptions& options, const JoinRequest& request) {
  const std::shared_ptr<grpc::Channel> channel = NewChannel(options);
  const std::unique_ptr<Coordinator::Stub> stub = Coordinator::NewStub(channel);
  JoinReply reply;
  RETURN_IF_ERROR(CallUntilAnswered(
      options, channel, [&](grpc::ClientContext* context) { return stub->Join(context, request, &reply); }));
  return std::make_unique<Link>(options, channel, request, reply);
}

}  // namespace lockstep
