#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/launch/authority.h"
#include "coordinator/launch/cluster.h"

namespace lockstep {

// How the coordinator's calls are protected, as people ask for it.
struct TlsFlags {
  std::string certificate, key, authority;  // files of their own
  bool insecure = false;
};
void AddTlsFlags(CLI::App* command, TlsFlags* flags);
// Said at the start of a run that has no TLS off loopback.
constexpr char kWithoutTls[] = "Without TLS the token travels in the clear: use a network that you trust.";
// --hosts, --hostfile, --lab, --slurm, --ssh.
void AddClusterFlags(CLI::App* command, ClusterRequest* request);
// The words that ask for it again.
std::vector<std::string> ClusterWords(const ClusterRequest& request);

// InvalidArgument: TLS is asked for, or refused, where no call leaves this machine (`hosts` false).
absl::Status CheckTlsFlags(const TlsFlags& flags, bool hosts);

// With a new token. Off loopback, or with files of one's own, with TLS unless --insecure says otherwise.
absl::StatusOr<RunCredentials> CredentialsFor(const TlsFlags& flags, bool loopback);

// Whether H:P, or H, is an address that only this machine reaches.
bool IsLoopback(const std::string& address);

// Where a run was launched, kept in its folder so that a resume goes there again. NotFound: on one machine.
absl::Status SaveClusterRequest(const std::string& run_folder, const ClusterRequest& request);
absl::StatusOr<ClusterRequest> ReadClusterRequest(const std::string& run_folder);

}  // namespace lockstep
