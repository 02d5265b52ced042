#include "worker/coordinator_client/attend_stream.h"

#include <pthread.h>

#include <utility>

#include "common/base/clock.h"

namespace lockstep {
namespace {

// A batch is sent when it is larger than this; one more record does not take it to gRPC's cap of 4 MiB.
constexpr int64_t kBatchBytes = 768 << 10;

grpc::ClientContext* WithToken(const ClientOptions& options, grpc::ClientContext* context) {
  AddToken(options, context);
  return context;
}

}  // namespace

AttendStream::AttendStream(const std::shared_ptr<grpc::Channel>& channel, Options options)
    : options_(std::move(options)),
      stub_(Coordinator::NewStub(channel)),
      stream_(stub_->Attend(WithToken(options_.client, &context_))),
      reports_(NewMessage()),
      reader_([this] { ReadLoop(); }),
      writer_([this] { WriteLoop(); }) {}

AttendStream::~AttendStream() {
  context_.TryCancel();
  {
    MutexLock lock(&mutex_);
    leaving_ = true;
    changed_.NotifyAll();
  }
  reader_.join();
  writer_.join();
}

WorkerMessage AttendStream::NewMessage() const {
  WorkerMessage message;
  message.set_rank(options_.rank);
  message.set_incarnation(options_.incarnation);
  return message;
}

void AttendStream::Send(WorkerMessage message) {
  message.set_rank(options_.rank);
  message.set_incarnation(options_.incarnation);
  MutexLock lock(&mutex_);
  if (ended_ || leaving_) return;
  urgent_.push_back(std::move(message));
  changed_.NotifyAll();
}

void AttendStream::Leave(const Leaving& leaving, absl::Duration timeout) {
  WorkerMessage message;
  *message.mutable_leaving() = leaving;
  Send(std::move(message));
  const int64_t until_ns = MonotonicNanos() + absl::ToInt64Nanoseconds(timeout);
  {
    MutexLock lock(&mutex_);
    leaving_ = true;
    changed_.NotifyAll();
    while (!ended_) {
      const int64_t left_ns = until_ns - MonotonicNanos();
      if (left_ns <= 0) break;
      changed_.WaitFor(&mutex_, absl::Nanoseconds(left_ns));
    }
  }
  context_.TryCancel();
}

void AttendStream::ReadLoop() {
  pthread_setname_np(pthread_self(), "coord-reader");
  CoordinatorMessage message;
  while (stream_->Read(&message)) options_.on_message(message);
  grpc::Status status;
  {
    // Nothing more to read means that the call is over: a write under way fails soon.
    MutexLock lock(&write_mutex_);
    finished_ = true;
    status = stream_->Finish();
  }
  options_.on_end(status);
  MutexLock lock(&mutex_);
  ended_ = true;
  urgent_.clear();
  changed_.NotifyAll();
}

bool AttendStream::NextUrgent(std::deque<WorkerMessage>* urgent) {
  MutexLock lock(&mutex_);
  if (urgent_.empty() && !leaving_ && !ended_) changed_.WaitFor(&mutex_, options_.period);
  urgent->clear();
  urgent->swap(urgent_);
  return !ended_ && !(leaving_ && urgent->empty());
}

void AttendStream::WriteLoop() {
  pthread_setname_np(pthread_self(), "coord-writer");
  // The first message is what tells the coordinator whose stream this is.
  WorkerMessage heartbeat = NewMessage();
  heartbeat.mutable_heartbeat()->set_step(options_.step());
  bool good = Write(heartbeat);
  std::deque<WorkerMessage> urgent;
  while (good && NextUrgent(&urgent)) {
    wrote_ = false;
    good = WriteReports();
    for (const WorkerMessage& message : urgent) good = good && Write(message);
    if (wrote_ || !good) continue;
    heartbeat.mutable_heartbeat()->set_step(options_.step());
    good = Write(heartbeat);
  }
  MutexLock lock(&write_mutex_);
  if (!finished_) stream_->WritesDone();
}

bool AttendStream::WriteReports() {
  for (;;) {
    StepBatch* const batch = reports_.mutable_reports();
    batch->Clear();
    if (!options_.ring->TakeInto(batch, kBatchBytes)) return true;
    if (!Write(reports_)) return false;
  }
}

bool AttendStream::Write(const WorkerMessage& message) {
  MutexLock lock(&write_mutex_);
  wrote_ = true;
  return !finished_ && stream_->Write(message);
}

}  // namespace lockstep
