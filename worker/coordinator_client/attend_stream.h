#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "lockstep/control.grpc.pb.h"
#include "worker/coordinator_client/channel.h"
#include "worker/coordinator_client/report_ring.h"

namespace lockstep {

// The one stream between this rank and the coordinator, with a thread that reads and one that writes. The writer sends
// urgent messages at once, the step records before them, records alone every `period`, and a heartbeat when there was
// nothing to send for that long. A coordinator that does not read (it is stopped) holds the writer up and nobody else.
class AttendStream {
 public:
  struct Options {
    ClientOptions client;
    int32_t rank = 0, incarnation = 0;
    absl::Duration period = absl::Milliseconds(250);
    ReportRing* ring = nullptr;
    std::function<int64_t()> step;                              // last one completed; any thread
    std::function<void(const CoordinatorMessage&)> on_message;  // on the reading thread, in order
    std::function<void(const grpc::Status&)> on_end;            // on the reading thread, once, last
  };

  AttendStream(const std::shared_ptr<grpc::Channel>& channel, Options options);
  // Breaks the stream off, unless Leave has ended it.
  ~AttendStream();

  // Any thread, never blocks. Rank and incarnation are filled in. Nothing once the stream has ended.
  void Send(WorkerMessage message);
  // Sends all that is left, then `leaving`; waits until the coordinator has ended the stream, at most `timeout`.
  void Leave(const Leaving& leaving, absl::Duration timeout);

 private:
  void ReadLoop();
  void WriteLoop();
  // The urgent messages, after at most `period`. False: no more will come.
  bool NextUrgent(std::deque<WorkerMessage>* urgent);
  bool WriteReports();
  bool Write(const WorkerMessage& message);
  WorkerMessage NewMessage() const;

  const Options options_;
  grpc::ClientContext context_;
  const std::unique_ptr<Coordinator::Stub> stub_;
  const std::unique_ptr<grpc::ClientReaderWriter<WorkerMessage, CoordinatorMessage>> stream_;
  WorkerMessage reports_;  // writer: used again, with its memory
  bool wrote_ = false;     // writer: since the last heartbeat was due

  Mutex write_mutex_;  // held for a write, so that the reader does not end the call under it
  bool finished_ ABSL_GUARDED_BY(write_mutex_) = false;

  Mutex mutex_;
  CondVar changed_;
  std::deque<WorkerMessage> urgent_ ABSL_GUARDED_BY(mutex_);
  bool leaving_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread reader_, writer_;
};

}  // namespace lockstep
