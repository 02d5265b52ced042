#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/credentials/credentials.h"

namespace lockstep {

// Both sides' credentials of one run.
struct RunCredentials {
  Credentials coordinator, worker;
};

// Of a private authority made for this run alone, whose key is forgotten at once: nobody can join it with a certificate
// of another. ECDSA over P-256. Valid from a month before `now`, since hosts' clocks differ, for ten years.
absl::StatusOr<RunCredentials> MakeRunCredentials(const std::string& token, absl::Time now = absl::Now());

// People's own: PEM files with a certificate, its key, and the authority of the other side's. Both sides use them.
// InvalidArgument names the file and what is wrong with it: no PEM, a key of another certificate, expired, signed by
// another authority. Where the certificate names a host, workers hold the coordinator to that name.
absl::StatusOr<RunCredentials> ReadOwnCredentials(const std::string& token, const std::string& certificate_path,
                                                  const std::string& key_path, const std::string& authority_path);

}  // namespace lockstep
