#include "coordinator/launch/authority.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <functional>
#include <memory>
#include <string>

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

// Signed by itself, and for nobody.
TEST_F(AuthorityTest, ACertificateThatNamesNoHostIsRefusedBeforeAnythingStarts) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), X509_free);
  ASSERT_EQ(X509_set_version(certificate.get(), 2), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  ASSERT_EQ(X509_set_pubkey(certificate.get(), key.get()), 1);
  ASSERT_GT(X509_sign(certificate.get(), key.get(), EVP_sha256()), 0);
  const auto text = [](const std::function<int(BIO*)>& write) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), BIO_free);
    EXPECT_EQ(write(bio.get()), 1);
    char* data = nullptr;
    const auto size = static_cast<size_t>(BIO_get_mem_data(bio.get(), &data));
    return std::string(data, size);
  };
  const std::string pem = text([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate.get()); });
  const std::string key_pem =
      text([&](BIO* bio) { return PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
  EXPECT_THAT(ReadBack(pem, key_pem, pem).status().message(), HasSubstr("cert.pem: names no host; give one with"));
}

}  // namespace
}  // namespace lockstep
