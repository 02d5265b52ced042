#include "coordinator/launch/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Cluster Of(std::vector<HostSlots> hosts) {
  Cluster cluster;
  cluster.hosts = std::move(hosts);
  return cluster;
}

HostFacts Facts(const std::string& host, const std::string& machine, int cores) {
  return {host, machine, cores, cores};
}

TEST(PlaceWorkersTest, HostsAreFilledInTheirOrder) {
  const auto placement = PlaceWorkers(Of({{"a", 4}, {"b", 4}, {"c", 4}}),
                                      {Facts("a", "1", 8), Facts("b", "2", 8), Facts("c", "3", 8)}, 6, 2);
  ASSERT_TRUE(placement.ok()) << placement.status();
  EXPECT_THAT(placement->hosts, ElementsAre(HostSlots{"a", 4}, HostSlots{"b", 2}));
  EXPECT_TRUE(placement->bind);
  EXPECT_FALSE(placement->yield);
}

// They would all be bound to the first cores.
TEST(PlaceWorkersTest, RunsThatLeaveRoomForOthersAreNotBound) {
  EXPECT_FALSE(PlaceWorkers(Of({{"a", 1}}), {Facts("a", "1", 2)}, 0, 1)->bind);
  EXPECT_TRUE(PlaceWorkers(Of({{"a", 2}}), {Facts("a", "1", 2)}, 0, 1)->bind);
  EXPECT_FALSE(PlaceWorkers(Of({{"a", 2}, {"b", 2}}), {Facts("a", "1", 8), Facts("b", "2", 8)}, 0, 2)->bind);
}

TEST(PlaceWorkersTest, SlotsThatAreNotSaidAreCoresByThreads) {
  const auto placement = PlaceWorkers(Of({{"a", 0}, {"b", 0}}), {Facts("a", "1", 8), Facts("b", "2", 1)}, 0, 2);
  ASSERT_TRUE(placement.ok()) << placement.status();
  EXPECT_THAT(placement->hosts, ElementsAre(HostSlots{"a", 4}, HostSlots{"b", 1}));
  EXPECT_FALSE(placement->bind);
  EXPECT_TRUE(placement->yield) << "two threads on the one core of b";
}

TEST(PlaceWorkersTest, HostsWithoutSlotsShareTheWorkers) {
  const auto placement = PlaceWorkers(Of({{"a", 0}, {"b", 0}, {"c", 0}}),
                                      {Facts("a", "1", 1), Facts("b", "2", 8), Facts("c", "3", 8)}, 4, 1);
  ASSERT_TRUE(placement.ok()) << placement.status();
  EXPECT_THAT(placement->hosts, ElementsAre(HostSlots{"a", 2}, HostSlots{"b", 1}, HostSlots{"c", 1}));
  EXPECT_TRUE(placement->yield);
}

TEST(PlaceWorkersTest, HostsThatAreOneMachineAreNotBoundToTheSameCores) {
  const auto placement = PlaceWorkers(Of({{"a", 2}, {"b", 2}}), {Facts("a", "1", 4), Facts("b", "1", 4)}, 0, 1);
  ASSERT_TRUE(placement.ok()) << placement.status();
  EXPECT_FALSE(placement->bind);
  EXPECT_FALSE(placement->yield);
  EXPECT_TRUE(PlaceWorkers(Of({{"a", 4}, {"b", 4}}), {Facts("a", "1", 4), Facts("b", "1", 4)}, 0, 1)->yield);
}

TEST(PlaceWorkersTest, ThreadsThatAreNotSaidAreThoseThatEveryHostHasCoresFor) {
  const auto placement = PlaceWorkers(Of({{"a", 2}, {"b", 2}}), {Facts("a", "1", 8), Facts("b", "2", 6)}, 0, 0);
  ASSERT_TRUE(placement.ok()) << placement.status();
  EXPECT_EQ(placement->threads, 3);
  EXPECT_TRUE(placement->bind);
  EXPECT_EQ(PlaceWorkers(Of({{"a", 0}}), {Facts("a", "1", 4)}, 0, 0)->workers(), 4);
  EXPECT_EQ(PlaceWorkers(Of({{"a", 4}, {"b", 4}}), {Facts("a", "1", 4), Facts("b", "1", 4)}, 0, 0)->threads, 1);
}

TEST(PlaceWorkersTest, ContainersOfOneMachineEachHaveTheirQuota) {
  HostFacts a = Facts("a", "1", 8), b = Facts("b", "1", 8);
  a.quota = b.quota = 3;
  auto placement = PlaceWorkers(Of({{"a", 1}, {"b", 1}}), {a, b}, 0, 0);
  ASSERT_TRUE(placement.ok()) << placement.status();
  EXPECT_EQ(placement->threads, 3);
  EXPECT_FALSE(placement->bind);
  EXPECT_FALSE(placement->yield);
  EXPECT_EQ(PlaceWorkers(Of({{"a", 0}, {"b", 0}}), {a, b}, 0, 1)->workers(), 6);
  a.cores = b.cores = 4;  // less than what both may use
  placement = PlaceWorkers(Of({{"a", 1}, {"b", 1}}), {a, b}, 0, 3);
  EXPECT_TRUE(placement->yield);
  // One alone is not bound either: what else there is on its machine is not known.
  EXPECT_FALSE(PlaceWorkers(Of({{"a", 1}}), {a}, 0, 1)->bind);
}

TEST(PlaceWorkersTest, MoreWorkersThanSlotsAreRefused) {
  const auto placement = PlaceWorkers(Of({{"a", 1}, {"b", 1}}), {Facts("a", "1", 8), Facts("b", "2", 8)}, 3, 1);
  EXPECT_EQ(placement.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(placement.status().message(), HasSubstr("--workers 3: the hosts have 2 slots"));
}

TEST(FindClusterTest, OneWayAlone) {
  EXPECT_THAT(FindCluster({"a:1", "f", "lab", ""}).status().message(), HasSubstr("give --hostfile, --lab or --slurm"));
  EXPECT_THAT(FindCluster({"", "", "lab", "ssh -p 2222"}).status().message(), HasSubstr("--ssh: is a command for"));
  EXPECT_THAT(FindCluster({"a:1", "", "lab", "ssh -p 2222"}).status().message(), HasSubstr("--ssh: is a command for"));
  EXPECT_THAT(FindCluster({"a:0", "", "", ""}).status().message(), HasSubstr("--hosts: 'a:0'"));
}

TEST(FindClusterTest, HostsOfAHostfile) {
  const TempFolder folder;
  folder.Write("hosts", "127.0.0.1 slots=4 worker=/opt/w\n127.0.0.2 slots=2\n");
  const auto some = FindCluster({"127.0.0.2,127.0.0.1:1", folder / "hosts", "", ""});
  ASSERT_TRUE(some.ok()) << some.status();
  EXPECT_THAT(some->hosts, ElementsAre(HostSlots{"127.0.0.2", 2}, HostSlots{"127.0.0.1", 1, "/opt/w"}));
  EXPECT_THAT(FindCluster({"127.0.0.3", folder / "hosts", "", ""}).status().message(),
              HasSubstr("127.0.0.3 is not in"));
}

TEST(FindClusterTest, HostsToWhichThereIsNoWayCanBeLeftOut) {
  const std::string hosts = "127.0.0.1:1,no-such-host.invalid:2,127.0.0.2:3";
  EXPECT_THAT(FindCluster({hosts, "", "", ""}).status().message(), HasSubstr("host no-such-host.invalid: "));
  std::vector<UnknownHost> unknown;
  const auto cluster = FindCluster({hosts, "", "", ""}, &unknown);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_THAT(cluster->hosts, ElementsAre(HostSlots{"127.0.0.1", 1}, HostSlots{"127.0.0.2", 3}));
  EXPECT_EQ(cluster->here.size(), 2u);
  ASSERT_EQ(unknown.size(), 1u);
  EXPECT_EQ(unknown[0].host, (HostSlots{"no-such-host.invalid", 2}));
}

TEST(FindClusterTest, OptionsOfSshComeBeforeOurs) {
  const auto cluster = FindCluster({"localhost:2", "", "", "ssh -p 2222"});
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_THAT(cluster->agent.words, ElementsAre("ssh", "-p", "2222", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"));
  EXPECT_THAT(cluster->here, ElementsAre(true));
}

}  // namespace
}  // namespace lockstep
