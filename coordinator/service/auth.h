#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"

namespace lockstep {

// Takes as long for every `presented` of one length, whatever it has in common with `secret`.
bool SameInConstantTime(absl::string_view secret, absl::string_view presented);

// UNAUTHENTICATED unless the call's metadata holds `authorization: Bearer <token>`, once.
grpc::Status CheckToken(const grpc::ServerContextBase& context, absl::string_view token);

grpc::Status ToGrpc(const absl::Status& status);

}  // namespace lockstep
