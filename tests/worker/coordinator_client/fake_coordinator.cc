#include "tests/worker/coordinator_client/fake_coordinator.h"

#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"

namespace lockstep {
namespace {

constexpr char kToken[] = "0123456789abcdef";
constexpr int64_t kLongWhileNanos = 60'000'000'000;
// Between looks at what gRPC has no condition for.
constexpr absl::Duration kLook = absl::Milliseconds(20);

grpc::Status CheckToken(const grpc::ServerContext& context) {
  const auto found = context.client_metadata().find("authorization");
  if (found != context.client_metadata().end() && found->second == absl::StrCat("Bearer ", kToken)) {
    return grpc::Status::OK;
  }
  return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "this is not the run's token");
}

}  // namespace

FakeCoordinator::FakeCoordinator(int port) {
  join_reply.mutable_grant()->set_first_step(1);
  join_reply.mutable_grant()->set_through_step(100);
  join_reply.mutable_grant()->set_final_step(1000);
  join_reply.set_heartbeat_s(0.02);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", port), grpc::InsecureServerCredentials(), &port_);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  EXPECT_NE(server_, nullptr);
}

void FakeCoordinator::Die() {
  if (server_ == nullptr) return;
  Read(true);
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_ = nullptr;
}

ClientOptions FakeCoordinator::client() const {
  ClientOptions options;
  options.address = absl::StrCat("127.0.0.1:", port_);
  options.credentials.token = kToken;
  return options;
}

std::unique_ptr<CoordinatorLink> FakeCoordinator::JoinAsWorker(const ClientOptions& options) {
  JoinRequest request;
  request.set_rank(3);
  request.set_world(4);
  request.set_incarnation(2);
  absl::StatusOr<std::unique_ptr<CoordinatorLink>> link = lockstep::Join(options, request);
  EXPECT_TRUE(link.ok()) << link.status();
  return *std::move(link);
}

void FakeCoordinator::Say(const CoordinatorMessage& message) {
  const int64_t until_ns = MonotonicNanos() + kLongWhileNanos;
  MutexLock lock(&mutex_);
  while (stream_ == nullptr && MonotonicNanos() < until_ns) changed_.WaitFor(&mutex_, kLook);
  ASSERT_NE(stream_, nullptr) << "no worker attends";
  stream_->Write(message);
}

void FakeCoordinator::SayGrant(int64_t first, int64_t through) {
  CoordinatorMessage message;
  message.mutable_grant()->set_first_step(first);
  message.mutable_grant()->set_through_step(through);
  message.mutable_grant()->set_final_step(1000);
  Say(message);
}

void FakeCoordinator::EndStream(const grpc::Status& status) {
  MutexLock lock(&mutex_);
  ending_ = true;
  end_ = status;
}

void FakeCoordinator::Read(bool go_on) {
  MutexLock lock(&mutex_);
  reading_ = go_on;
  changed_.NotifyAll();
  const int64_t until_ns = MonotonicNanos() + kLongWhileNanos;
  while (!go_on && !parked_ && MonotonicNanos() < until_ns) changed_.WaitFor(&mutex_, kLook);
}

bool FakeCoordinator::Until(const std::function<bool(const std::vector<WorkerMessage>&)>& is_there) {
  const int64_t until_ns = MonotonicNanos() + kLongWhileNanos;
  MutexLock lock(&mutex_);
  while (messages_.empty() || !is_there(messages_)) {
    if (MonotonicNanos() > until_ns) return false;
    changed_.WaitFor(&mutex_, kLook);
  }
  return true;
}

std::vector<WorkerMessage> FakeCoordinator::Messages() {
  MutexLock lock(&mutex_);
  return messages_;
}

std::vector<WorkerMessage> FakeCoordinator::Messages(WorkerMessage::KindCase kind) {
  std::vector<WorkerMessage> found;
  for (const WorkerMessage& message : Messages()) {
    if (message.kind_case() == kind) found.push_back(message);
  }
  return found;
}

std::vector<CheckpointChunk> FakeCoordinator::TakeUploaded() {
  MutexLock lock(&mutex_);
  return std::exchange(uploaded_, {});
}

grpc::Status FakeCoordinator::GetRun(grpc::ServerContext* context, const GetRunRequest*, GetRunReply* reply) {
  reply->set_world(4);
  reply->set_config_digest("digest");
  return CheckToken(*context);
}

grpc::Status FakeCoordinator::Join(grpc::ServerContext* context, const JoinRequest*, JoinReply* reply) {
  *reply = join_reply;
  const grpc::Status token = CheckToken(*context);
  return token.ok() ? join_status : token;
}

bool FakeCoordinator::MayRead(grpc::ServerContext* context) {
  MutexLock lock(&mutex_);
  while (!reading_ && !context->IsCancelled()) {
    parked_ = true;
    changed_.NotifyAll();
    changed_.WaitFor(&mutex_, kLook);
  }
  parked_ = false;
  return !ending_;
}

grpc::Status FakeCoordinator::Attend(grpc::ServerContext* context,
                                     grpc::ServerReaderWriter<CoordinatorMessage, WorkerMessage>* stream) {
  if (const grpc::Status token = CheckToken(*context); !token.ok()) return token;
  {
    MutexLock lock(&mutex_);
    stream_ = stream;
    changed_.NotifyAll();
  }
  // Heartbeats come all the time, so that MayRead is asked often.
  for (WorkerMessage message; MayRead(context) && stream->Read(&message);) {
    MutexLock lock(&mutex_);
    messages_.push_back(message);
    changed_.NotifyAll();
    if (message.has_leaving()) break;
  }
  MutexLock lock(&mutex_);
  stream_ = nullptr;
  return end_;
}

grpc::Status FakeCoordinator::UploadCheckpoint(grpc::ServerContext* context,
                                               grpc::ServerReader<CheckpointChunk>* reader,
                                               CheckpointCommitted* committed) {
  if (const grpc::Status token = CheckToken(*context); !token.ok()) return token;
  MutexLock lock(&mutex_);
  while (!read_uploads && !context->IsCancelled()) changed_.WaitFor(&mutex_, kLook);
  if (!upload_status.ok()) return upload_status;
  for (CheckpointChunk chunk; reader->Read(&chunk);) uploaded_.push_back(chunk);
  committed->set_step(uploaded_.empty() ? -1 : uploaded_[0].header().cursor().step());
  return grpc::Status::OK;
}

grpc::Status FakeCoordinator::DownloadCheckpoint(grpc::ServerContext* context, const DownloadRequest* request,
                                                 grpc::ServerWriter<CheckpointChunk>* writer) {
  if (const grpc::Status token = CheckToken(*context); !token.ok()) return token;
  if (request->incarnation() != 2) return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "an old incarnation");
  for (const CheckpointChunk& chunk : download) {
    if (!writer->Write(chunk)) break;
  }
  return download_status;
}

}  // namespace lockstep
