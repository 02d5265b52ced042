#pragma once

#include <optional>
#include <string>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/checkpoint/checkpoint.h"
#include "coordinator/service/core.h"
#include "coordinator/service/disk_thread.h"
#include "lockstep/control.grpc.pb.h"

namespace lockstep {

struct GrpcServiceOptions {
  std::string token;
  std::string checkpoints_folder;
  int incarnation = 0;
  std::optional<FoundCheckpoint> from;  // what this incarnation starts from
  FileSystem* files = nullptr;
  Clock* clock = nullptr;
};

// The wire: checks the token, hands each call to the core, and what waits for a disk to a thread of its own.
class GrpcService : public Coordinator::CallbackService {
 public:
  GrpcService(GrpcServiceOptions options, Core* core) : options_(std::move(options)), core_(core) {}

  grpc::ServerUnaryReactor* GetRun(grpc::CallbackServerContext* context, const GetRunRequest* request,
                                   GetRunReply* reply) override;
  grpc::ServerUnaryReactor* Join(grpc::CallbackServerContext* context, const JoinRequest* request,
                                 JoinReply* reply) override;
  grpc::ServerBidiReactor<WorkerMessage, CoordinatorMessage>* Attend(grpc::CallbackServerContext* context) override;
  grpc::ServerReadReactor<CheckpointChunk>* UploadCheckpoint(grpc::CallbackServerContext* context,
                                                             CheckpointCommitted* reply) override;
  grpc::ServerWriteReactor<CheckpointChunk>* DownloadCheckpoint(grpc::CallbackServerContext* context,
                                                                const DownloadRequest* request) override;
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context, const StatusRequest* request,
                                      StatusReply* reply) override;
  grpc::ServerUnaryReactor* RequestStop(grpc::CallbackServerContext* context, const StopRequested* request,
                                        RequestReply* reply) override;
  grpc::ServerUnaryReactor* RequestCheckpoint(grpc::CallbackServerContext* context, const CheckpointRequested* request,
                                              RequestReply* reply) override;

 private:
  const GrpcServiceOptions options_;
  Core* const core_;
  DiskThread disk_;
};

}  // namespace lockstep
