// Which way an all-reduce goes: the tables, and the trial that makes one out of measured times.
#include "worker/comm/ways.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/stable_random.h"
#include "tests/support/thread_collectives.h"
#include "worker/comm/measure_ways.h"
#include "worker/comm/way_trial.h"

namespace lockstep {
namespace {

TEST(WaysTest, ATableGivesEachSizeTheFirstWayThatReachesIt) {
  const WayTable ways = {{100, Way::kGather}, {1000, Way::kDirect}, {5000, Way::kRing}};
  EXPECT_EQ(FindWay(ways, 1), Way::kGather);
  EXPECT_EQ(FindWay(ways, 100), Way::kGather);
  EXPECT_EQ(FindWay(ways, 101), Way::kDirect);
  EXPECT_EQ(FindWay(ways, 5000), Way::kRing);
  EXPECT_EQ(FindWay(ways, 5001), Way::kRing) << "the last is for all larger ones";
  EXPECT_EQ(DescribeWays(RingWays()), "doubling to 32 KiB, direct to 2 MiB, ring above");
  EXPECT_EQ(DescribeWays(LibraryWays()), "mpi");
  for (const Way way : {Way::kLibrary, Way::kGather, Way::kDoubling, Way::kDirect, Way::kRing}) {
    EXPECT_EQ(WayOfName(WayName(way)), way);
  }
  EXPECT_EQ(WayOfName("telepathy"), std::nullopt);
}

// Seconds of an all-reduce, by way and bytes.
using Link = std::function<double(Way, double)>;

// n hosts on links of one speed; `library`: what share of it the library's reaches.
Link Hosts(int n, double bytes_per_s, double latency_s, double library) {
  return [=](Way way, double bytes) {
    const double least = 2.0 * (n - 1) / n * bytes / bytes_per_s;
    switch (way) {
      case Way::kGather:
        return latency_s + (n - 1) * bytes / bytes_per_s;
      case Way::kDoubling:
        return std::ceil(std::log2(n)) * (latency_s + bytes / bytes_per_s);
      case Way::kDirect:
        return 2 * latency_s + 1.1 * least;  // everyone sends to one at a time
      case Way::kRing:
        return 2 * (n - 1) * latency_s + least;
      case Way::kLibrary:
        return 1.9 * latency_s + least / library;
    }
    return 0.0;
  };
}

struct Tried {
  WayTrial trial;
  int rounds = 0;
  double elapsed_s = 0;
};

// `noise`: up to such a share is added to each time, by chance. Nothing but the measured time passes.
Tried Try(const Link& link, int world, double noise = 0, uint64_t seed = 1) {
  WayTrial::Options options;
  options.world = world;
  Tried tried{WayTrial(options)};
  StableRandom random(seed);
  while (const auto round = tried.trial.Next()) {
    std::vector<double> seconds;
    for (const Way way : round->ways) {
      seconds.push_back(link(way, static_cast<double>(round->bytes)) * (1 + noise * random.Uniform()));
      tried.elapsed_s += seconds.back();
    }
    tried.trial.Took(seconds, tried.elapsed_s);
    if (++tried.rounds > 200) ADD_FAILURE() << "the trial does not end";
    if (tried.rounds > 200) break;
  }
  return tried;
}

TEST(WayTrialTest, FindsTheFastestWayAtEachSize) {
  // 10 Gbit, 50 us: gather and direct tie in rounds at small sizes, the ring wins where bandwidth counts.
  const Tried tried = Try(Hosts(4, 1.25e9, 50e-6, 0.55), 4);
  const WayTable table = tried.trial.Table();
  EXPECT_EQ(FindWay(table, 16 << 10), Way::kGather);
  EXPECT_EQ(FindWay(table, 256 << 10), Way::kDirect);
  EXPECT_EQ(FindWay(table, 16 << 20), Way::kRing);
  EXPECT_EQ(FindWay(table, int64_t{1} << 33), Way::kRing);
  EXPECT_LT(tried.rounds, 7 * 9);
}

TEST(WayTrialTest, TheLibrarysIsTakenOnlyWhereItIsFasterByAFifth) {
  const auto flat = [](double library) {
    return [library](Way way, double bytes) { return (way == Way::kLibrary ? library : 1.0) * (1e-4 + bytes * 1e-9); };
  };
  for (const double share : {0.5, 0.79}) {
    EXPECT_EQ(DescribeWays(Try(flat(share), 2).trial.Table()), "mpi") << share;
  }
  for (const double share : {0.81, 1.0}) {
    EXPECT_EQ(Try(flat(share), 2).trial.Table()[0].way, Way::kGather) << share << ": ours add up in an order of ours";
  }
}

TEST(WayTrialTest, OnASlowLinkTheSizesThatDoNotFitAreLeftOutAndGoInARing) {
  const Tried tried = Try(Hosts(4, 25e6, 300e-6, 0.55), 4);  // 200 Mbit
  EXPECT_LE(tried.elapsed_s, 0.8);
  std::set<int64_t> sizes;
  for (const WayTime& time : tried.trial.Times()) sizes.insert(time.bytes);
  EXPECT_EQ(*sizes.rbegin(), 1 << 20);
  EXPECT_EQ(FindWay(tried.trial.Table(), 100 << 20), Way::kRing);
  EXPECT_EQ(tried.trial.Table().back().bytes, kAnySize);
  // A link of next to nothing: one round tells, and that is all.
  const Tried modem = Try(Hosts(2, 1e5, 0.1, 0.5), 2);
  EXPECT_EQ(modem.rounds, 1);
  EXPECT_FALSE(modem.trial.Times().empty());
}

TEST(WayTrialTest, AFirstRoundThatPaysForConnectionsDoesNotCount) {
  int calls = 0;
  const Link honest = Hosts(2, 1.25e9, 50e-6, 0.55);
  const Tried tried = Try([&](Way way, double bytes) { return honest(way, bytes) + (++calls == 1 ? 20e-3 : 0); }, 2);
  EXPECT_EQ(tried.trial.Table()[0].way, Way::kGather);
  EXPECT_LT(tried.trial.Times()[0].seconds, 1e-3);
}

TEST(WayTrialTest, AGatherThatHasLostIsNotTriedAtLargerSizesAndNeverAtSizesThatFillMemory) {
  for (const int world : {4, 2000}) {
    int64_t largest = 0;
    bool lost = false;
    for (const WayTime& time : Try(Hosts(world, 1.25e9, 1e-9, 0.55), world).trial.Times()) {
      if (time.way != Way::kGather) continue;
      EXPECT_FALSE(lost);
      lost = !time.chosen;
      largest = time.bytes;
    }
    EXPECT_LE(largest * world, 16 << 20);
  }
}

TEST(WayTrialTest, ByNoiseTheChoiceLosesLittle) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const Link link = Hosts(4, 1.25e8, 100e-6, 0.55);
    const Tried tried = Try(link, 4, 0.1, seed);
    for (const int64_t bytes : {16 << 10, 256 << 10, 1 << 20, 16 << 20}) {
      double best = 1e9;
      for (const Way way : {Way::kGather, Way::kDoubling, Way::kDirect, Way::kRing})
        best = std::min(best, link(way, bytes));
      EXPECT_LT(link(FindWay(tried.trial.Table(), bytes), bytes), 1.2 * best) << bytes << " bytes, seed " << seed;
    }
    EXPECT_LE(tried.elapsed_s, 0.8 * 1.1) << "what a round takes is known up to the noise";
  }
}

TEST(WayTrialTest, TimesListEveryWayAndMarkOneASize) {
  std::map<int64_t, int> chosen, ways;
  for (const WayTime& time : Try(Hosts(2, 1.25e9, 50e-6, 0.55), 2).trial.Times()) {
    ++ways[time.bytes];
    chosen[time.bytes] += time.chosen ? 1 : 0;
    EXPECT_GT(time.seconds, 0);
  }
  EXPECT_EQ(ways.size(), 7u);
  EXPECT_EQ(ways[2 << 10], 5);
  for (const auto& [bytes, count] : chosen) EXPECT_EQ(count, 1) << bytes;
}

// Real all-reduces among threads, which know one way only: what is tested is that all ranks go the same steps.
TEST(MeasureWaysTest, AllRanksHoldTheSameTimesAndTheSameTable) {
  constexpr int kWorld = 4;
  ThreadGroup group(kWorld);
  std::vector<std::string> texts(kWorld), shared(kWorld);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kWorld; ++rank) {
    threads.emplace_back([&, rank] {
      const auto collectives = group.Rank(rank);
      WayTrial::Options options;
      options.world = kWorld;
      options.sizes = {1 << 10, 4 << 10};
      const auto trial = MeasureWays(collectives.get(), WayTrial(options), absl::Seconds(30));
      ASSERT_TRUE(trial.ok()) << trial.status();
      for (const WayTime& time : trial->Times()) {
        absl::StrAppend(&texts[rank], time.bytes, WayName(time.way), absl::Hex(time.seconds * 1e15), time.chosen, " ");
      }
      absl::StrAppend(&texts[rank], DescribeWays(trial->Table()));
      const auto text = ShareFromRank0(collectives.get(), rank == 0 ? "of rank 0" : "mine", absl::Seconds(30));
      ASSERT_TRUE(text.ok()) << text.status();
      shared[rank] = *text;
      EXPECT_EQ(*ShareFromRank0(collectives.get(), "", absl::Seconds(30)), "");
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(texts, testing::Each(texts[0]));
  EXPECT_THAT(shared, testing::Each("of rank 0"));
}

}  // namespace
}  // namespace lockstep
