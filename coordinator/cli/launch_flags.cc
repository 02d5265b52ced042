#include "coordinator/cli/launch_flags.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/file.h"
#include "common/base/status.h"
#include "coordinator/cli/run_folder.h"
#include "coordinator/launch/lab.h"
#include "coordinator/supervise/token.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxLaunch = 16 << 20;

}  // namespace

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ClusterRequest, hosts, hostfile, lab, ssh, slurm)

void AddTlsFlags(CLI::App* command, TlsFlags* flags) {
  command->add_option("--tls-cert", flags->certificate, "A certificate of your own for calls between hosts (PEM)")
      ->type_name("F");
  command->add_option("--tls-key", flags->key, "Its key")->type_name("F");
  command->add_option("--tls-ca", flags->authority, "The authority that signed it")->type_name("F");
  command->add_flag("--insecure", flags->insecure, "No TLS between hosts: the token travels in the clear");
}

void AddClusterFlags(CLI::App* command, ClusterRequest* request) {
  command
      ->add_option("--hosts", request->hosts,
                   "Run on these hosts, over ssh: a:4,b:4 (workers on each); of a --hostfile, --lab or --slurm, these")
      ->type_name("H:N,…");
  command->add_option("--hostfile", request->hostfile, "The same from a file, a host a line: a slots=4")
      ->type_name("F");
  // A flag, so that no word after it is taken for its name.
  command->add_flag(absl::StrCat("--lab{", kDefaultLab, "}"), request->lab,
                    "Run on the hosts of lockstep lab; --lab=NAME of another than 'lab'");
  command->add_flag("--slurm", request->slurm, "Run on the hosts of the Slurm job that this is part of");
  command->add_option("--ssh", request->ssh, "What reaches a host (default: ssh), with options: 'ssh -p 2222'")
      ->type_name("CMD");
}

std::vector<std::string> ClusterWords(const ClusterRequest& request) {
  std::vector<std::string> words;
  if (!request.hosts.empty()) words.insert(words.end(), {"--hosts", request.hosts});
  if (!request.hostfile.empty()) words.insert(words.end(), {"--hostfile", request.hostfile});
  if (!request.lab.empty()) words.push_back(absl::StrCat("--lab=", request.lab));
  if (request.slurm) words.push_back("--slurm");
  if (!request.ssh.empty()) words.insert(words.end(), {"--ssh", request.ssh});
  return words;
}

absl::Status CheckTlsFlags(const TlsFlags& flags, bool hosts) {
  const bool any = flags.insecure || !flags.certificate.empty() || !flags.key.empty() || !flags.authority.empty();
  if (hosts || !any) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--tls-cert, --tls-key, --tls-ca and --insecure are for calls between hosts; leave them out, or give --hosts");
}

absl::StatusOr<RunCredentials> CredentialsFor(const TlsFlags& flags, bool loopback) {
  ASSIGN_OR_RETURN(const std::string token, MakeToken());
  const bool own = !flags.certificate.empty() || !flags.key.empty() || !flags.authority.empty();
  if (own && flags.insecure) {
    return absl::InvalidArgumentError("--insecure turns TLS off; leave it out, or leave out --tls-cert and the others");
  }
  if (own && (flags.certificate.empty() || flags.key.empty() || flags.authority.empty())) {
    return absl::InvalidArgumentError("--tls-cert, --tls-key and --tls-ca belong together; give all three");
  }
  if (own) return ReadOwnCredentials(token, flags.certificate, flags.key, flags.authority);
  if (!loopback && !flags.insecure) return MakeRunCredentials(token);
  RunCredentials plain;
  plain.coordinator.token = plain.worker.token = token;
  return plain;
}

bool IsLoopback(const std::string& address) {
  return absl::StartsWith(address, "127.") || absl::StartsWith(address, "localhost:") ||
         absl::StartsWith(address, "[::1]");
}

absl::Status SaveClusterRequest(const std::string& run_folder, const ClusterRequest& request) {
  const std::string path = JoinPath(run_folder, kLaunchFile);
  if (request.empty()) return FileSystem::Real()->RemoveAll(path);
  ClusterRequest absolute = request;
  if (!request.hostfile.empty()) absolute.hostfile = std::filesystem::absolute(request.hostfile);
  return WriteFileAtomically(FileSystem::Real(), path, nlohmann::json(absolute).dump(1) + "\n");
}

absl::StatusOr<ClusterRequest> ReadClusterRequest(const std::string& run_folder) {
  const std::string path = JoinPath(run_folder, kLaunchFile);
  ASSIGN_OR_RETURN(const std::string text, FileSystem::Real()->Read(path, kMaxLaunch));
  ClusterRequest request;
  try {
    request = nlohmann::json::parse(text).get<ClusterRequest>();
  } catch (const nlohmann::json::exception&) {  // then it says no hosts
  }
  if (request.empty()) return absl::DataLossError(absl::StrCat(path, ": says no hosts; give --hosts or --hostfile"));
  return request;
}

}  // namespace lockstep
