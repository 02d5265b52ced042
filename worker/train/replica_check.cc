#include "worker/train/replica_check.h"

#include <xxhash.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status.h"
#include "worker/comm/named_ranks.h"

namespace lockstep {
namespace {

struct Vote {
  int replica = 0;
  uint64_t value = 0;
};

// Most replicas' value; where none has most, that of the first vote, rank 0's.
uint64_t Majority(const std::vector<Vote>& votes) {
  std::map<uint64_t, int> counts;
  for (const Vote& vote : votes) ++counts[vote.value];
  uint64_t best = votes[0].value;
  for (const auto& [value, count] : counts) {
    if (count > counts[best]) best = value;
  }
  return best;
}

// `ranks_of`: by replica, the ranks that share it.
absl::Status Compare(absl::string_view what, const std::vector<Vote>& votes,
                     const std::map<int, std::vector<int>>& ranks_of, int64_t step) {
  const uint64_t right = Majority(votes);
  std::vector<int> wrong;
  uint64_t other = 0;
  for (const Vote& vote : votes) {
    if (vote.value == right) continue;
    other = vote.value;
    const std::vector<int>& ranks = ranks_of.at(vote.replica);
    wrong.insert(wrong.end(), ranks.begin(), ranks.end());
  }
  if (wrong.empty()) return absl::OkStatus();
  return WithRanks(
      absl::DataLossError(absl::StrFormat(
          "after step %d the %s of %s differ from those of the other replicas (XXH3 %016x, not %016x): faulty memory, "
          "or a fault in this program or a library; look at that host, then go on from a checkpoint before that step",
          step, what, RankList(wrong), other, right)),
      wrong);
}

}  // namespace

uint64_t HashReplica(absl::Span<const absl::Span<const std::byte>> parts) {
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(state.get());
  for (const absl::Span<const std::byte> part : parts) XXH3_64bits_update(state.get(), part.data(), part.size());
  return XXH3_64bits_digest(state.get());
}

absl::Status CompareReplicas(absl::Span<const ReplicaDigest> all, int64_t step) {
  std::map<int, std::vector<int>> sharing, alone;
  std::vector<Vote> parameters, buffers;
  for (int rank = 0; rank < static_cast<int>(all.size()); ++rank) {
    const int replica = static_cast<int>(all[rank].replica);
    sharing[replica].push_back(rank);
    alone[rank] = {rank};
    if (replica == rank) parameters.push_back({rank, all[rank].parameters});
    buffers.push_back({rank, all[rank].buffers});
  }
  RETURN_IF_ERROR(Compare("parameters", parameters, sharing, step));
  return Compare("buffers", buffers, alone, step);
}

absl::Status CheckReplicas(const ReplicaDigest& own, int64_t step, int world, CommThread* comm) {
  struct Gather {
    ReplicaDigest own;
    std::vector<ReplicaDigest> all;
  };
  auto gather = std::make_unique<Gather>(Gather{own, std::vector<ReplicaDigest>(world)});
  comm->StartOperation("replicas", sizeof(ReplicaDigest), [to = gather.get()](Collectives* collectives) {
    return collectives->AllGather(
        {reinterpret_cast<const std::byte*>(&to->own), sizeof(ReplicaDigest)},
        {reinterpret_cast<std::byte*>(to->all.data()), to->all.size() * sizeof(ReplicaDigest)});
  });
  const absl::Status gathered = comm->Wait();
  if (gathered.ok()) return CompareReplicas(gather->all, step);
  static_cast<void>(gather.release());  // the operation may be under way still
  return gathered;
}

}  // namespace lockstep
