#include "worker/coordinator_client/channel.h"

#include "absl/strings/str_cat.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"

namespace lockstep {
namespace {

constexpr int kMaxMessage = 4 << 20;
// A coordinator that is just starting is found soon.
constexpr int kFirstReconnectMillis = 50;
constexpr int kLastReconnectMillis = 500;

}  // namespace

std::shared_ptr<grpc::Channel> NewChannel(const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxReceiveMessageSize(kMaxMessage);
  arguments.SetMaxSendMessageSize(kMaxMessage);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstReconnectMillis);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);  // the least that a connection attempt may take
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kLastReconnectMillis);
  const Credentials& own = options.credentials;
  if (!own.tls()) return grpc::CreateCustomChannel(options.address, grpc::InsecureChannelCredentials(), arguments);
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = own.authority;
  tls.pem_cert_chain = own.certificate;
  tls.pem_private_key = own.key;
  if (!own.coordinator_name.empty()) arguments.SetSslTargetNameOverride(own.coordinator_name);
  return grpc::CreateCustomChannel(options.address, grpc::SslCredentials(tls), arguments);
}

void AddToken(const ClientOptions& options, grpc::ClientContext* context) {
  context->AddMetadata("authorization", absl::StrCat("Bearer ", options.credentials.token));
}

absl::Status FromGrpc(const ClientOptions& options, const grpc::Status& status) {
  // The codes are the same by definition.
  return absl::Status(
      static_cast<absl::StatusCode>(status.error_code()),
      status.ok() ? "" : absl::StrCat("the coordinator at ", options.address, ": ", status.error_message()));
}

bool IsRefusal(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::UNAVAILABLE:
      return false;
    default:
      return true;
  }
}

}  // namespace lockstep
