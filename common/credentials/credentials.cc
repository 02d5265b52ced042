#include "common/credentials/credentials.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/file.h"
#include "common/base/status.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxBytes = 256 << 10;

const char* Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr || value[0] == '\0' ? nullptr : value;
}

}  // namespace

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Credentials, token, authority, certificate, key, coordinator_name)

std::string CredentialsText(const Credentials& credentials) { return nlohmann::json(credentials).dump(); }

absl::StatusOr<Credentials> ParseCredentials(absl::string_view text) {
  try {
    Credentials credentials = nlohmann::json::parse(text.begin(), text.end()).get<Credentials>();
    if (!credentials.token.empty()) return credentials;
  } catch (const nlohmann::json::exception&) {  // its words may hold the secret
  }
  return absl::InvalidArgumentError("holds no run's credentials; take the file that lockstep serve names");
}

absl::StatusOr<Credentials> CredentialsFromEnvironment() {
  Credentials credentials;
  if (const char* token = Variable("LOCKSTEP_TOKEN")) {
    credentials.token = token;
    return credentials;
  }
  if (const char* path = Variable("LOCKSTEP_TOKEN_FILE")) {
    ASSIGN_OR_RETURN(const std::string content, FileSystem::Real()->Read(path, kMaxBytes));
    credentials.token = std::string(absl::StripAsciiWhitespace(content));
    return credentials;
  }
  const char* path = Variable(kCredentialsVariable);
  if (path == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("no token: set ", kCredentialsVariable,
                                                   " to the file with the run's credentials, or LOCKSTEP_TOKEN_FILE to "
                                                   "one with its token"));
  }
  ASSIGN_OR_RETURN(const std::string content, FileSystem::Real()->Read(path, kMaxBytes));
  absl::StatusOr<Credentials> read = ParseCredentials(absl::StripAsciiWhitespace(content));
  if (!read.ok()) return absl::InvalidArgumentError(absl::StrCat(path, ": ", read.status().message()));
  return read;
}

}  // namespace lockstep
