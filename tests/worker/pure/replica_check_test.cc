#include "worker/train/replica_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/thread_collectives.h"
#include "worker/comm/named_ranks.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::Span<const std::byte> Bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(float)};
}

// Digests of `world` ranks with a replica each and equal bits.
std::vector<ReplicaDigest> Equal(int world) {
  std::vector<ReplicaDigest> all(world);
  for (int rank = 0; rank < world; ++rank) all[rank] = {rank, 11, 22};
  return all;
}

TEST(ReplicaCheckTest, OneBitFlippedOnOneRankIsFoundAndThatRankNamedOnAll) {
  constexpr int kWorld = 3;
  ThreadGroup group(kWorld);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kWorld; ++rank) {
    ranks.emplace_back([&group, rank] {
      const std::unique_ptr<Collectives> collectives = group.Rank(rank);
      CommThread comm(collectives.get(), absl::Seconds(60));
      std::vector<float> parameters(100'003, 0.125f), buffer(7, 1.0f);
      for (int64_t step = 1; step <= 2; ++step) {
        if (step == 2 && rank == 1) reinterpret_cast<uint32_t*>(parameters.data())[77'777] ^= 1;
        const ReplicaDigest own = {rank, HashReplica({Bytes(parameters)}), HashReplica({Bytes(buffer)})};
        const absl::Status status = CheckReplicas(own, step, kWorld, &comm);
        if (step == 1) {
          EXPECT_TRUE(status.ok()) << status;
          continue;
        }
        EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
        EXPECT_THAT(std::string(status.message()),
                    HasSubstr("after step 2 the parameters of rank 1 differ from those of the other replicas"));
        EXPECT_THAT(NamedRanks(status), ElementsAre(1));
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

TEST(ReplicaCheckTest, TheMajorityIsRightAndRankZeroWhereThereIsNone) {
  std::vector<ReplicaDigest> all = Equal(4);
  EXPECT_TRUE(CompareReplicas(all, 1).ok());
  all[0].parameters = 99;
  EXPECT_THAT(NamedRanks(CompareReplicas(all, 1)), ElementsAre(0));
  all[3].parameters = 99;
  EXPECT_THAT(NamedRanks(CompareReplicas(all, 1)), ElementsAre(1, 2));
  all[2].parameters = 98;
  EXPECT_THAT(NamedRanks(CompareReplicas(all, 1)), ElementsAre(1, 2));
}

TEST(ReplicaCheckTest, RanksThatShareAReplicaAreOneVoteAndAreNamedTogether) {
  std::vector<ReplicaDigest> all = Equal(5);
  for (const int rank : {0, 1, 2}) all[rank].replica = 0;  // ranks 1 and 2 have not hashed
  all[1].parameters = all[2].parameters = 0;
  EXPECT_TRUE(CompareReplicas(all, 1).ok());
  all[0].parameters = 99;
  EXPECT_THAT(NamedRanks(CompareReplicas(all, 1)), ElementsAre(0, 1, 2)) << "two replicas against one";
}

TEST(ReplicaCheckTest, BuffersAreEachRanksOwn) {
  std::vector<ReplicaDigest> all = Equal(4);
  for (ReplicaDigest& one : all) one.replica = 0;
  all[3].buffers = 99;
  const absl::Status status = CompareReplicas(all, 70);
  EXPECT_THAT(std::string(status.message()), HasSubstr("after step 70 the buffers of rank 3 differ"));
  EXPECT_THAT(NamedRanks(status), ElementsAre(3));
}

}  // namespace
}  // namespace lockstep
