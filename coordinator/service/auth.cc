#include "coordinator/service/auth.h"

#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace lockstep {

bool SameInConstantTime(absl::string_view secret, absl::string_view presented) {
  volatile unsigned char difference = secret.size() == presented.size() && !secret.empty() ? 0 : 1;
  for (size_t i = 0; i < presented.size(); ++i) {
    const char other = secret.empty() ? 0 : secret[i % secret.size()];
    difference = difference | static_cast<unsigned char>(presented[i] ^ other);
  }
  return difference == 0;
}

grpc::Status CheckToken(const grpc::ServerContextBase& context, absl::string_view token) {
  const auto& metadata = context.client_metadata();
  const auto [first, last] = metadata.equal_range("authorization");
  if (first != last && std::next(first) == last) {
    absl::string_view value(first->second.data(), first->second.size());
    if (absl::ConsumePrefix(&value, "Bearer ") && SameInConstantTime(token, value)) return grpc::Status::OK;
  }
  return grpc::Status(grpc::StatusCode::UNAUTHENTICATED,
                      first == last ? "the call carries no token: start it by lockstep run, or set the run's token"
                                    : "the call does not carry this run's token");
}

grpc::Status ToGrpc(const absl::Status& status) {
  // The codes are the same by definition.
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace lockstep
