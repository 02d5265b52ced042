#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/status.h"
#include "lockstep/control.grpc.pb.h"
#include "worker/coordinator_client/client.h"

namespace lockstep {

// How this room talks to the coordinator: past any proxy, messages capped as control.proto says.
std::shared_ptr<grpc::Channel> NewChannel(const ClientOptions& options);

// Every call carries the run's token.
void AddToken(const ClientOptions& options, grpc::ClientContext* context);

// The same code; the message names the coordinator's address.
absl::Status FromGrpc(const ClientOptions& options, const grpc::Status& status);

// True for what the coordinator itself answers, as against a connection that has broken.
bool IsRefusal(const grpc::Status& status);

}  // namespace lockstep
