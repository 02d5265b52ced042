#include "coordinator/launch/network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const LocalAddress kRack = {"eth1", "10.1.0.9", "10.1.0.0/24", false};
const LocalAddress kOffice = {"eth0", "192.168.0.9", "192.168.0.0/16", false};
const LocalAddress kSelf = {"lo", "127.0.0.1", "127.0.0.0/8", true};

TEST(NetworkOfTest, HostsInOneNetworkUseThatOneAlone) {
  const ClusterNetwork network =
      NetworkOf({{"10.1.0.9", kRack, true, true}, {"10.1.0.1", kRack, false, true}, {"10.1.0.2", kRack, false, true}});
  EXPECT_TRUE(network.remote);
  EXPECT_THAT(network.networks, ElementsAre("10.1.0.0/24"));
  EXPECT_EQ(network.listen, "10.1.0.9");
}

TEST(NetworkOfTest, AHostBehindARouterIsNamedByItsAddress) {
  const ClusterNetwork network = NetworkOf({{"10.1.0.1", kRack, false, true}, {"172.16.5.4", kOffice, false, false}});
  EXPECT_THAT(network.networks, ElementsAre("10.1.0.0/24", "192.168.0.0/16", "172.16.5.4/31"));
}

TEST(NetworkOfTest, NoNetworkIsOfASingleAddressWhichOpenMpiTakesForAll) {
  const LocalAddress alone = {"eth0", "10.9.0.7", "10.9.0.7/32", false};
  EXPECT_THAT(NetworkOf({{"10.9.0.8", alone, false, false}}).networks, ElementsAre("10.9.0.7/31", "10.9.0.8/31"));
}

TEST(NarrowNetworksTest, AFurtherAddressInANetworkIsNotUsed) {
  ClusterNetwork network;
  network.networks = {"10.1.0.0/24", "10.2.0.0/24"};
  const std::vector<std::string> reached = {"10.1.0.9", "10.1.0.20", "10.2.0.4"};
  NarrowNetworks(reached, {{"127.0.0.1", "10.1.0.9", "10.2.0.9"}, {"10.1.0.20"}, {"10.2.0.4"}}, &network);
  EXPECT_THAT(network.networks, ElementsAre("10.1.0.0/24", "10.2.0.0/24"));
  NarrowNetworks(reached, {{"10.1.0.9", "10.1.0.200"}, {"10.1.0.20"}, {"10.2.0.4"}}, &network);
  EXPECT_THAT(network.networks, ElementsAre("10.1.0.9/31", "10.1.0.20/31", "10.2.0.0/24"));
}

TEST(RouteToTest, ALoopbackAddressThatNoInterfaceHasIsHere) {
  const auto local = LocalAddresses();
  ASSERT_TRUE(local.ok()) << local.status();
  const auto route = RouteTo("127.0.1.1", *local);
  ASSERT_TRUE(route.ok()) << route.status();
  EXPECT_TRUE(route->here);
}

TEST(NetworkOfTest, ThisMachineAloneNeedsNoNetwork) {
  const ClusterNetwork network = NetworkOf({{"127.0.0.1", kSelf, true, true}});
  EXPECT_FALSE(network.remote);
  EXPECT_THAT(network.networks, IsEmpty());
  EXPECT_EQ(network.listen, "127.0.0.1");
}

TEST(RouteToTest, ThisMachineIsHereByEveryNameOfIt) {
  const auto local = LocalAddresses();
  ASSERT_TRUE(local.ok()) << local.status();
  ASSERT_TRUE(std::any_of(local->begin(), local->end(), [](const LocalAddress& one) { return one.loopback; }));
  for (const LocalAddress& one : *local) {
    if (one.address.find(':') != std::string::npos) continue;
    const auto route = RouteTo(one.address, *local);
    ASSERT_TRUE(route.ok()) << route.status();
    EXPECT_TRUE(route->here) << one.address;
  }
  EXPECT_TRUE(RouteTo("localhost", *local)->here);
}

TEST(RouteToTest, ANameThatIsNoneSaysSo) {
  const auto route = RouteTo("no-such-host.invalid", *LocalAddresses());
  EXPECT_EQ(route.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(route.status().message(), HasSubstr("host no-such-host.invalid: "));
}

}  // namespace
}  // namespace lockstep
