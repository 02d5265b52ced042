#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep {

// What one side of a run's calls shows the other. Secret: never an argument, which every user of a machine can read,
// and never in the run folder, which people copy.
struct Credentials {
  std::string token;  // every call carries it
  // PEM; all empty: no TLS, which is for loopback and for --insecure.
  std::string authority;    // who must have signed the other side's certificate
  std::string certificate;  // this side's, followed by what is between it and the authority
  std::string key;
  // The name in the coordinator's certificate, where it is none of its addresses; empty: what the worker connects to.
  std::string coordinator_name;

  bool tls() const { return !certificate.empty(); }
};

// As JSON on one line, which is what a credentials file holds.
std::string CredentialsText(const Credentials& credentials);
// InvalidArgument, without a word of the content: it is no such text.
absl::StatusOr<Credentials> ParseCredentials(absl::string_view text);

// Of a worker: from LOCKSTEP_TOKEN, else the file that LOCKSTEP_TOKEN_FILE (a token alone) or LOCKSTEP_CREDENTIALS
// names. InvalidArgument: none of them is set, or the file is not what it should be.
absl::StatusOr<Credentials> CredentialsFromEnvironment();

// Names the file with a run's credentials; not a secret itself.
inline constexpr char kCredentialsVariable[] = "LOCKSTEP_CREDENTIALS";

}  // namespace lockstep
