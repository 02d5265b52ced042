#include "coordinator/service/grpc_service.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/service/attend.h"
#include "coordinator/service/auth.h"
#include "coordinator/service/download.h"
#include "coordinator/service/upload.h"

namespace lockstep {
namespace {

// One operation is under way at a time: a read, or the disk's work on what was read.
class UploadReactor : public grpc::ServerReadReactor<CheckpointChunk> {
 public:
  UploadReactor(std::unique_ptr<CheckpointUpload> upload, CheckpointCommitted* reply, DiskThread* disk)
      : upload_(std::move(upload)), reply_(reply), disk_(disk) {
    StartRead(&chunk_);
  }
  void OnReadDone(bool ok) override {
    disk_->Post([this, ok] { ok ? Take() : End(); });
  }
  void OnDone() override { delete this; }

 private:
  void Take() {
    const absl::Status taken = upload_->Take(chunk_);
    taken.ok() ? StartRead(&chunk_) : Answer(taken);
  }
  void End() {
    absl::StatusOr<CheckpointCommitted> committed = upload_->Finish();
    if (committed.ok()) *reply_ = *std::move(committed);
    Answer(committed.status());
  }
  void Answer(const absl::Status& status) {
    upload_.reset();
    Finish(ToGrpc(status));
  }

  std::unique_ptr<CheckpointUpload> upload_;
  CheckpointCommitted* const reply_;
  DiskThread* const disk_;
  CheckpointChunk chunk_;
};

class DownloadReactor : public grpc::ServerWriteReactor<CheckpointChunk> {
 public:
  DownloadReactor(CheckpointDownload download, DiskThread* disk) : download_(std::move(download)), disk_(disk) {
    disk_->Post([this] { Next(); });
  }
  void OnWriteDone(bool ok) override {
    ok ? disk_->Post([this] { Next(); }) : Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the caller is gone"));
  }
  void OnDone() override { delete this; }

 private:
  void Next() {
    const absl::StatusOr<bool> more = download_.Next(&chunk_);
    more.ok() && *more ? StartWrite(&chunk_) : Finish(ToGrpc(more.status()));
  }

  CheckpointDownload download_;
  DiskThread* const disk_;
  CheckpointChunk chunk_;
};

template <typename Reactor>
class Refused : public Reactor {
 public:
  explicit Refused(const grpc::Status& status) { this->Finish(status); }
  void OnDone() override { delete this; }
};

// Checks the token, answers with what `call` gives.
template <typename Reply, typename Call>
grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const std::string& token, Reply* reply,
                                 Call call) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  grpc::Status status = CheckToken(*context, token);
  if (status.ok()) {
    absl::StatusOr<Reply> answer = call();
    status = ToGrpc(answer.status());
    if (answer.ok()) *reply = *std::move(answer);
  }
  reactor->Finish(status);
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* GrpcService::GetRun(grpc::CallbackServerContext* context, const GetRunRequest* request,
                                              GetRunReply* reply) {
  return Answer(context, options_.token, reply, [&] { return core_->GetRun(); });
}

grpc::ServerUnaryReactor* GrpcService::Join(grpc::CallbackServerContext* context, const JoinRequest* request,
                                            JoinReply* reply) {
  return Answer(context, options_.token, reply, [&] { return core_->Join(*request); });
}

grpc::ServerUnaryReactor* GrpcService::GetStatus(grpc::CallbackServerContext* context, const StatusRequest* request,
                                                 StatusReply* reply) {
  return Answer(context, options_.token, reply,
                [&] { return absl::StatusOr<StatusReply>(core_->GetStatus(request->after_event())); });
}

grpc::ServerUnaryReactor* GrpcService::RequestStop(grpc::CallbackServerContext* context, const StopRequested* request,
                                                   RequestReply* reply) {
  return Answer(context, options_.token, reply, [&] { return core_->RequestStop(*request); });
}

grpc::ServerUnaryReactor* GrpcService::RequestCheckpoint(grpc::CallbackServerContext* context,
                                                         const CheckpointRequested* request, RequestReply* reply) {
  return Answer(context, options_.token, reply, [&] { return core_->RequestCheckpoint(*request); });
}

grpc::ServerBidiReactor<WorkerMessage, CoordinatorMessage>* GrpcService::Attend(grpc::CallbackServerContext* context) {
  return new AttendReactor(context, core_, CheckToken(*context, options_.token));
}

grpc::ServerReadReactor<CheckpointChunk>* GrpcService::UploadCheckpoint(grpc::CallbackServerContext* context,
                                                                        CheckpointCommitted* reply) {
  if (grpc::Status status = CheckToken(*context, options_.token); !status.ok()) {
    return new Refused<grpc::ServerReadReactor<CheckpointChunk>>(status);
  }
  return new UploadReactor(
      std::make_unique<CheckpointUpload>(core_, options_.files, options_.clock, options_.checkpoints_folder), reply,
      &disk_);
}

grpc::ServerWriteReactor<CheckpointChunk>* GrpcService::DownloadCheckpoint(grpc::CallbackServerContext* context,
                                                                           const DownloadRequest* request) {
  grpc::Status status = CheckToken(*context, options_.token);
  if (status.ok() && request->incarnation() != options_.incarnation) {
    status = grpc::Status(grpc::StatusCode::FAILED_PRECONDITION,
                          absl::StrCat("a call of incarnation ", request->incarnation(), ", the run is in incarnation ",
                                       options_.incarnation));
  }
  if (!status.ok()) return new Refused<grpc::ServerWriteReactor<CheckpointChunk>>(status);
  return new DownloadReactor(CheckpointDownload(options_.incarnation, &options_.from), &disk_);
}

}  // namespace lockstep
