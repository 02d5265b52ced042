#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "grpcpp/server.h"
#include "lockstep/control.grpc.pb.h"
#include "worker/coordinator_client/client.h"

namespace lockstep {

// A coordinator that notes what it is told and says what the test tells it to. One worker.
class FakeCoordinator : public Coordinator::Service {
 public:
  // `port` 0: any that is free.
  explicit FakeCoordinator(int port = 0);
  ~FakeCoordinator() override { Die(); }

  int port() const { return port_; }
  ClientOptions client() const;
  // Joins as rank 3 of 4 in incarnation 2; a test failure if that does not work.
  std::unique_ptr<CoordinatorLink> JoinAsWorker(const ClientOptions& options);
  std::unique_ptr<CoordinatorLink> JoinAsWorker() { return JoinAsWorker(client()); }

  // Breaks all connections.
  void Die();
  // To the worker's stream, once it is there.
  void Say(const CoordinatorMessage& message);
  void SayGrant(int64_t first, int64_t through);
  // Ends the worker's stream.
  void EndStream(const grpc::Status& status);
  // As if stopped by a signal: once this has returned nothing more is read from the worker, until called with true.
  void Read(bool go_on);

  // Until `is_there(messages so far)`, of which there is at least one; false after a long while.
  bool Until(const std::function<bool(const std::vector<WorkerMessage>&)>& is_there);
  std::vector<WorkerMessage> Messages();
  // All messages of one kind.
  std::vector<WorkerMessage> Messages(WorkerMessage::KindCase kind);

  // What uploads have brought since the last call.
  std::vector<CheckpointChunk> TakeUploaded();

  // Set before they are used.
  JoinReply join_reply;
  grpc::Status join_status, upload_status, download_status;
  bool read_uploads = true;
  std::vector<CheckpointChunk> download;

 private:
  grpc::Status GetRun(grpc::ServerContext* context, const GetRunRequest* request, GetRunReply* reply) override;
  grpc::Status Join(grpc::ServerContext* context, const JoinRequest* request, JoinReply* reply) override;
  grpc::Status Attend(grpc::ServerContext* context,
                      grpc::ServerReaderWriter<CoordinatorMessage, WorkerMessage>* stream) override;
  grpc::Status UploadCheckpoint(grpc::ServerContext* context, grpc::ServerReader<CheckpointChunk>* reader,
                                CheckpointCommitted* committed) override;
  grpc::Status DownloadCheckpoint(grpc::ServerContext* context, const DownloadRequest* request,
                                  grpc::ServerWriter<CheckpointChunk>* writer) override;
  bool MayRead(grpc::ServerContext* context);

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<WorkerMessage> messages_ ABSL_GUARDED_BY(mutex_);
  std::vector<CheckpointChunk> uploaded_ ABSL_GUARDED_BY(mutex_);
  grpc::ServerReaderWriter<CoordinatorMessage, WorkerMessage>* stream_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool reading_ ABSL_GUARDED_BY(mutex_) = true;
  bool parked_ ABSL_GUARDED_BY(mutex_) = false;  // it has seen that it may not read
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep
