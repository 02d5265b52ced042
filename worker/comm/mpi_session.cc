#include <mpi.h>

#include <algorithm>
#include <map>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "worker/comm/mpi.h"
#include "worker/comm/mpi_check.h"
#include "worker/comm/mpi_hosts.h"

namespace lockstep {
namespace {

const char* ThreadLevelName(int level) {
  return level == MPI_THREAD_SINGLE ? "MPI_THREAD_SINGLE" : "MPI_THREAD_FUNNELED";
}

// Of a rank, with a token of its own.
struct Identity {
  HostIdentity host;
  char token[32] = "";
};

Identity OwnIdentity() {
  std::random_device random;
  const std::string token = absl::StrCat(absl::Hex(random(), absl::kZeroPad8), absl::Hex(random(), absl::kZeroPad8));
  Identity identity = {OwnHostIdentity()};
  std::copy_n(token.begin(), std::min(token.size(), sizeof(identity.token) - 1), identity.token);
  return identity;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MpiSession>> MpiSession::Create(int* argc, char*** argv) {
  int level = MPI_THREAD_SINGLE;
  RETURN_IF_ERROR(CheckMpi(MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &level), "MPI_Init_thread"));
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"));
  if (level < MPI_THREAD_SERIALIZED) {
    return absl::FailedPreconditionError(
        absl::StrCat("the MPI library gives only ", ThreadLevelName(level),
                     ", and a communication thread needs MPI_THREAD_SERIALIZED; use an MPI built with thread support"));
  }
  int rank = 0, world = 0;
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank"));
  RETURN_IF_ERROR(CheckMpi(MPI_Comm_size(MPI_COMM_WORLD, &world), "MPI_Comm_size"));
  return std::unique_ptr<MpiSession>(new MpiSession(rank, world));
}

MpiSession::~MpiSession() {
  if (abandoned_) return;
  // Nobody is left who could be told.
  const absl::Status ignored = CheckMpi(MPI_Finalize(), "MPI_Finalize");
  (void)ignored;
}

std::string MpiSession::library_version() const {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  if (!CheckMpi(MPI_Get_library_version(text, &length), "MPI_Get_library_version").ok()) return "unknown MPI";
  const std::string version(text, length);
  return version.substr(0, version.find_first_of(",\n"));
}

absl::StatusOr<std::unique_ptr<Collectives>> MpiSession::NewCollectives(const MpiOptions& options) {
  return NewMpiCollectives(options);
}

absl::StatusOr<MpiSession::Host> MpiSession::FindHost(absl::Duration deadline) {
  ASSIGN_OR_RETURN(const std::vector<Identity> all, GatherEach(OwnIdentity(), world_, MPI_COMM_WORLD, deadline));
  Host host;
  std::map<std::string, int> numbers;
  for (int rank = 0; rank < world_; ++rank) {
    const std::string identity = all[rank].host.text;
    const auto [number, first] = numbers.emplace(identity, static_cast<int>(numbers.size()));
    if (first) {
      host.hosts.emplace_back();
      host.names.push_back(identity.substr(0, identity.find('/')));
    }
    std::vector<int>& ranks = host.hosts[number->second];
    if (rank == rank_) {
      host.host = number->second;
      host.index = static_cast<int>(ranks.size());
    }
    ranks.push_back(rank);
  }
  host.window_name = absl::StrCat("lockstep-window-", all[host.ranks()[0]].token);
  return host;
}

int MpiSession::Host::fewest() const {
  const auto fewer = [](const std::vector<int>& a, const std::vector<int>& b) { return a.size() < b.size(); };
  return static_cast<int>(std::min_element(hosts.begin(), hosts.end(), fewer)->size());
}

absl::StatusOr<MpiSession::Share> MpiSession::ShareHost(const Host& host, const WindowOptions& sizes,
                                                        const MpiOptions& options, Collectives* all) {
  WindowOptions window = sizes;
  window.ranks = host.ranks();
  window.index = host.index;
  window.name = host.window_name;
  absl::StatusOr<std::unique_ptr<HostWindow>> opened = HostWindow::Open(window);
  ASSIGN_OR_RETURN(const bool everywhere, OnAllRanks(opened.ok(), sizes.timeout));
  RETURN_IF_ERROR(opened.status());
  if (!everywhere) return absl::UnavailableError("the ranks of another host have no shared window");
  Share share;
  share.window = *std::move(opened);
  const int hosts = static_cast<int>(host.hosts.size());
  if (hosts > 1) {
    MpiOptions between = options;
    between.part = MpiPart{host.index < host.fewest() ? host.index : -1, host.host};
    ASSIGN_OR_RETURN(share.peers, NewCollectives(between));
  }
  share.collectives =
      std::make_unique<HostCollectives>(share.window.get(), all, share.peers.get(), hosts, host.fewest());
  return share;
}

absl::StatusOr<bool> MpiSession::OnAllRanks(bool own, absl::Duration deadline) {
  ASSIGN_OR_RETURN(const std::vector<char> all, GatherEach<char>(own ? 1 : 0, world_, MPI_COMM_WORLD, deadline));
  return std::find(all.begin(), all.end(), 0) == all.end();
}

absl::StatusOr<std::vector<double>> MpiSession::GatherDoubles(double own, absl::Duration deadline) {
  return GatherEach(own, world_, MPI_COMM_WORLD, deadline);
}

}  // namespace lockstep
