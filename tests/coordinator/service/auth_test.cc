#include "coordinator/service/auth.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(AuthTest, OnlyTheSecretIsTheSame) {
  EXPECT_TRUE(SameInConstantTime("secret", "secret"));
  EXPECT_FALSE(SameInConstantTime("secret", "secreT"));
  EXPECT_FALSE(SameInConstantTime("secret", "Secret"));
  EXPECT_FALSE(SameInConstantTime("secret", ""));
  EXPECT_FALSE(SameInConstantTime("secret", "secre"));
  EXPECT_FALSE(SameInConstantTime("secret", "secretsecret"));
  EXPECT_FALSE(SameInConstantTime("secret", std::string("secret\0", 7)));
}

TEST(AuthTest, AnEmptySecretOpensNothing) {
  EXPECT_FALSE(SameInConstantTime("", ""));
  EXPECT_FALSE(SameInConstantTime("", "x"));
}

TEST(AuthTest, StatusKeepsCodeAndMessage) {
  const grpc::Status status = ToGrpc(absl::DataLossError("half of it"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(status.error_message(), "half of it");
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
}

}  // namespace
}  // namespace lockstep
