#include "coordinator/cli/operator_client.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/supervise/runtime_record.h"

namespace lockstep {
namespace {

constexpr int kMaxMessageBytes = 4 << 20;
constexpr absl::Duration kRequestTimeout = absl::Seconds(5);

std::unique_ptr<Coordinator::Stub> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  return Coordinator::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
}

absl::Status ToStatus(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace

OperatorClient::OperatorClient(const std::string& address, std::string token)
    : token_(std::move(token)), stub_(Connect(address)) {}

void OperatorClient::Prepare(absl::Duration timeout, grpc::ClientContext* context) const {
  context->AddMetadata("authorization", absl::StrCat("Bearer ", token_));
  context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
}

absl::StatusOr<StatusReply> OperatorClient::GetStatus(int64_t after_event, absl::Duration timeout) {
  grpc::ClientContext context;
  Prepare(timeout, &context);
  StatusRequest request;
  request.set_after_event(after_event);
  StatusReply reply;
  RETURN_IF_ERROR(ToStatus(stub_->GetStatus(&context, request, &reply)));
  return reply;
}

absl::StatusOr<std::string> OperatorClient::RequestStop(const std::string& by, bool signal) {
  grpc::ClientContext context;
  Prepare(kRequestTimeout, &context);
  StopRequested request;
  request.set_by(by);
  request.set_signal(signal);
  RequestReply reply;
  RETURN_IF_ERROR(ToStatus(stub_->RequestStop(&context, request, &reply)));
  return reply.said();
}

absl::StatusOr<std::string> OperatorClient::RequestCheckpoint(const std::string& by) {
  grpc::ClientContext context;
  Prepare(kRequestTimeout, &context);
  CheckpointRequested request;
  request.set_by(by);
  RequestReply reply;
  RETURN_IF_ERROR(ToStatus(stub_->RequestCheckpoint(&context, request, &reply)));
  return reply.said();
}

absl::StatusOr<LiveRun> FindLiveRun(const std::string& run) {
  LiveRun live;
  ASSIGN_OR_RETURN(live.folder, FindRunFolder(run));
  ASSIGN_OR_RETURN(const RuntimeRecords records, RuntimeRecords::Open());
  const absl::StatusOr<RuntimeRecord> record = records.Find(live.folder);
  if (!record.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat(live.folder, ": is not live on this machine; ", HowToGoOn(live.folder)));
  }
  live.client = std::make_unique<OperatorClient>(record->address, record->token);
  return live;
}

}  // namespace lockstep
