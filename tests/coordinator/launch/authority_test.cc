#include "coordinator/launch/authority.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/file.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

class AuthorityTest : public testing::Test {
 protected:
  std::string File(const std::string& name, const std::string& content) {
    const std::string path = folder_ / name;
    EXPECT_TRUE(WriteFileAtomically(FileSystem::Real(), path, content).ok());
    return path;
  }
  // Of the run's worker, as files.
  absl::StatusOr<RunCredentials> ReadBack(const std::string& certificate, const std::string& key,
                                          const std::string& authority) {
    return ReadOwnCredentials("token", File("cert.pem", certificate), File("key.pem", key), File("ca.pem", authority));
  }

  TempFolder folder_;
  const RunCredentials run_ = *MakeRunCredentials("token"), other_ = *MakeRunCredentials("token");
};

TEST_F(AuthorityTest, BothSidesTrustTheRunsAuthorityAndNoRunIsLikeAnother) {
  EXPECT_EQ(run_.coordinator.authority, run_.worker.authority);
  EXPECT_NE(run_.coordinator.key, run_.worker.key);
  EXPECT_NE(run_.coordinator.authority, other_.coordinator.authority);
  EXPECT_EQ(run_.worker.token, "token");
}

TEST_F(AuthorityTest, OwnFilesAreReadAndTheCertificatesNameIsWhatWorkersHoldTheCoordinatorTo) {
  const auto own = ReadBack(run_.coordinator.certificate, run_.coordinator.key, run_.coordinator.authority);
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ(own->worker.coordinator_name, "coordinator.lockstep");
  EXPECT_EQ(own->worker.key, run_.coordinator.key);
}

TEST_F(AuthorityTest, OwnFilesThatDoNotBelongTogetherAreNamed) {
  const Credentials& worker = run_.worker;
  EXPECT_THAT(ReadBack("no certificate", worker.key, worker.authority).status().message(),
              HasSubstr("cert.pem: holds no certificate in PEM"));
  EXPECT_THAT(ReadBack(worker.certificate, "no key", worker.authority).status().message(),
              HasSubstr("key.pem: holds no private key in PEM"));
  EXPECT_THAT(ReadBack(worker.certificate, run_.coordinator.key, worker.authority).status().message(),
              HasSubstr("key.pem: is not the key of "));
  EXPECT_THAT(ReadBack(worker.certificate, worker.key, other_.worker.authority).status().message(),
              HasSubstr("cert.pem: is not accepted by "));
  const Credentials old = MakeRunCredentials("token", absl::Now() - absl::Hours(24 * 3700))->worker;
  EXPECT_THAT(ReadBack(old.certificate, old.key, old.authority).status().message(), HasSubstr("cert.pem: has expired"));
}

}  // namespace
}  // namespace lockstep
