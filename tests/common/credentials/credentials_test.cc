#include "common/credentials/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/base/file.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using testing::HasSubstr;
using testing::Not;

class CredentialsTest : public testing::Test {
 protected:
  CredentialsTest() { Clear(); }
  ~CredentialsTest() override { Clear(); }
  static void Clear() {
    for (const char* name : {"LOCKSTEP_TOKEN", "LOCKSTEP_TOKEN_FILE", "LOCKSTEP_CREDENTIALS"}) unsetenv(name);
  }
  void Set(const char* name, const std::string& content) {
    ASSERT_TRUE(WriteFileAtomically(FileSystem::Real(), folder_ / "file", content).ok());
    setenv(name, std::string(folder_ / "file").c_str(), 1);
  }

  TempFolder folder_;
  const Credentials all_ = {"t0ken", "ca\n", "cert\n", "key\n", "name"};
};

TEST_F(CredentialsTest, TextAndBack) {
  const auto read = ParseCredentials(CredentialsText(all_));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(CredentialsText(*read), CredentialsText(all_));
  EXPECT_TRUE(read->tls());
}

TEST_F(CredentialsTest, WhatIsNoneIsRefusedWithoutBeingShown) {
  for (const char* text : {"", "t0p-secret", "{}", "[1]", "{\"token\": 7}", "{\"token\": \"t0p-secret\"}"}) {
    const absl::Status status = ParseCredentials(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(status.message(), Not(HasSubstr("t0p-secret")));
  }
}

TEST_F(CredentialsTest, TheEnvironmentNamesThem) {
  EXPECT_THAT(CredentialsFromEnvironment().status().message(), HasSubstr("no token: set LOCKSTEP_CREDENTIALS"));
  Set("LOCKSTEP_CREDENTIALS", CredentialsText(all_) + "\n");
  EXPECT_EQ(CredentialsFromEnvironment()->key, "key\n");
  Set("LOCKSTEP_TOKEN_FILE", "abc\n");
  EXPECT_EQ(CredentialsFromEnvironment()->token, "abc");
  setenv("LOCKSTEP_TOKEN", "def", 1);
  EXPECT_EQ(CredentialsFromEnvironment()->token, "def");
  EXPECT_FALSE(CredentialsFromEnvironment()->tls());
}

}  // namespace
}  // namespace lockstep
