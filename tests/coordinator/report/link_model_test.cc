#include "coordinator/report/link_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "common/base/stable_random.h"

namespace lockstep {
namespace {

constexpr double kLatency = 0.0002, kBandwidth = 1e8;

// A link as it is: every message, once handed over, waits for those before it, then takes its bytes' time; one that
// finds nothing before it takes the latency as well.
class SimulatedLink {
 public:
  explicit SimulatedLink(double noise) : noise_(noise) {}

  // A collective of `count` messages of `bytes`, `depth` of which are handed over at a time.
  std::vector<MessageRow> Collective(int64_t step, int seq, int count, int64_t bytes, int depth, double start) {
    std::vector<MessageRow> rows;
    for (int i = 0; i < count; ++i) {
      MessageRow& row = rows.emplace_back();
      row.step = step;
      row.seq = seq;
      row.number = i;
      row.bytes = bytes;
      row.sent = i < depth ? start : rows[i - depth].came;
      row.ready = start;
      const double bytes_s = static_cast<double>(bytes) / kBandwidth * (1 + noise_ * random_.Normal());
      row.came = std::max(row.sent + (row.sent > before_ ? kLatency : 0), before_) + bytes_s;
      before_ = row.came;
    }
    return rows;
  }

 private:
  const double noise_;
  double before_ = 0;
  StableRandom random_{7};
};

std::vector<LinkSample> Samples(double noise, int steps, const std::vector<std::pair<int, int64_t>>& collectives) {
  SimulatedLink link(noise);
  std::vector<LinkSample> samples;
  for (int step = 1; step <= steps; ++step) {
    std::vector<MessageRow> rows;
    for (size_t seq = 0; seq < collectives.size(); ++seq) {
      const auto& [count, bytes] = collectives[seq];
      const auto more =
          link.Collective(step, static_cast<int>(seq), count, bytes, 4, step + 0.1 * static_cast<double>(seq));
      rows.insert(rows.end(), more.begin(), more.end());
    }
    std::reverse(rows.begin(), rows.end());  // they come in no order
    const auto of_step = QueueOf(rows);
    samples.insert(samples.end(), of_step.begin(), of_step.end());
  }
  return samples;
}

TEST(LinkModelTest, TheFirstPaysTheLatencyAndThoseBehindItForTheirBytes) {
  SimulatedLink link(0);
  const std::vector<LinkSample> samples = QueueOf(link.Collective(3, 2, 10, 50000, 4, 1));
  ASSERT_EQ(samples.size(), 10u);
  for (size_t i = 0; i < samples.size(); ++i) {
    EXPECT_EQ(samples[i].step, 3);
    EXPECT_EQ(samples[i].alone, i == 0);
    EXPECT_EQ(samples[i].bytes, 50000);
    EXPECT_NEAR(samples[i].seconds, (i == 0 ? kLatency : 0) + 50000 / kBandwidth, 1e-9);
  }
}

// Of a collective of many messages the first are on record; those of the next queue behind the others.
TEST(LinkModelTest, WhatIsNotOnRecordIsOverOnceItsCollectiveHasEnded) {
  SimulatedLink link(0);
  std::vector<MessageRow> rows = link.Collective(1, 0, 40, 50000, 4, 1);
  const double end = rows.back().came;
  rows.resize(8);
  const std::vector<MessageRow> more = link.Collective(1, 1, 4, 50000, 4, end - 0.005);
  rows.insert(rows.end(), more.begin(), more.end());
  const auto alone = [](const std::vector<LinkSample>& samples) {
    return std::count_if(samples.begin(), samples.end(), [](const LinkSample& one) { return one.alone; });
  };
  EXPECT_EQ(alone(QueueOf(rows)), 2) << "the second of them a lie";
  const std::vector<LinkSample> samples = QueueOf(rows, {{0, end}, {1, more.back().came}});
  EXPECT_EQ(alone(samples), 1);
  EXPECT_EQ(samples.size(), QueueOf(rows).size() - 1);
}

TEST(LinkModelTest, WhatMayHaveComeBeforeItWasSeenOnlyEndsAWait) {
  SimulatedLink link(0);
  std::vector<MessageRow> rows = link.Collective(1, 0, 6, 50000, 6, 1);
  rows[1].sent = 0;                     // its sender's record is lost
  rows[3].ready = rows[3].came - 1e-6;  // there was no room for it before
  const std::vector<LinkSample> samples = QueueOf(rows);
  ASSERT_EQ(samples.size(), 4u);
  for (size_t i = 1; i < samples.size(); ++i) EXPECT_NEAR(samples[i].seconds, 50000 / kBandwidth, 1e-9);
}

TEST(LinkModelTest, LatencyAndBandwidthAreFoundWithinTheirErrors) {
  const auto fit = FitLink(Samples(0.1, 40, {{1, 256}, {6, 4000}, {30, 60000}, {60, 60000}}));
  ASSERT_TRUE(fit.has_value());
  EXPECT_NEAR(fit->latency_s, kLatency, 0.1 * kLatency);
  EXPECT_NEAR(fit->bandwidth, kBandwidth, 0.03 * kBandwidth);
  EXPECT_LE(std::abs(fit->latency_s - kLatency), 2 * fit->latency_error_s);
  EXPECT_LE(std::abs(fit->bandwidth - kBandwidth), 2 * fit->bandwidth_error);
  EXPECT_GT(fit->bandwidth_error, 0);
  EXPECT_LT(fit->bandwidth_error, 0.05 * kBandwidth);
}

TEST(LinkModelTest, FewMessagesThatWereHeldUpDoNotCount) {
  std::vector<LinkSample> samples = Samples(0.02, 40, {{1, 256}, {1, 300}, {1, 280}, {30, 60000}});
  for (size_t i = 0; i < samples.size(); i += 5) samples[i].seconds += 0.5;
  const auto fit = FitLink(samples);
  ASSERT_TRUE(fit.has_value());
  EXPECT_NEAR(fit->latency_s, kLatency, 0.1 * kLatency);
  EXPECT_NEAR(fit->bandwidth, kBandwidth, 0.03 * kBandwidth);
}

TEST(LinkModelTest, WithoutAQueueSizesTellLatencyFromBandwidth) {
  const auto fit = FitLink(Samples(0.01, 20, {{1, 1000}, {1, 20000}, {1, 60000}}));
  ASSERT_TRUE(fit.has_value());
  EXPECT_NEAR(fit->latency_s, kLatency, 0.1 * kLatency);
  EXPECT_NEAR(fit->bandwidth, kBandwidth, 0.05 * kBandwidth);
}

// Of three hosts that all send to both others at once each flow has half of its ports.
TEST(LinkModelTest, WhatSharesAPortIsCountedTogether) {
  std::map<HostPair, std::vector<LinkSample>> samples;
  const double bytes = 1e6, seconds = 2 * bytes / kBandwidth;
  for (int from = 0; from < 3; ++from) {
    for (int to = 0; to < 3; ++to) {
      if (from != to) samples[{from, to}] = {{1, false, bytes, seconds, 5}};
    }
  }
  const HostPair one = {0, 1};
  samples[one].push_back({1, false, bytes, bytes / kBandwidth, 7});  // by itself
  AddOthersBytes(&samples);
  for (const auto& [pair, of_pair] : samples)
    EXPECT_NEAR(of_pair[0].bytes / of_pair[0].seconds, kBandwidth, 1) << pair.first;
  EXPECT_NEAR(samples[one][1].bytes, bytes, 1);
}

// A flow to a slow host takes little of its sender's port from the others.
TEST(LinkModelTest, OfASlowHostsFlowsTheOthersFeelTheirShare) {
  std::map<HostPair, std::vector<LinkSample>> samples;
  const double bytes = 1e6, fast = 1.1 * bytes / kBandwidth, slow = 10 * fast;
  samples[{0, 1}] = {{1, false, bytes, fast, 0}};
  samples[{2, 1}] = {{1, false, bytes, slow, 0}};
  samples[{0, 2}] = {{1, false, bytes, slow, 0}};
  samples[{1, 2}] = {{1, false, bytes, slow, 0}};
  AddOthersBytes(&samples);
  const HostPair one = {0, 1};
  EXPECT_NEAR(samples[one][0].bytes / fast, kBandwidth, 0.01 * kBandwidth);
}

TEST(LinkModelTest, NothingIsFittedToWhatDoesNotTell) {
  EXPECT_FALSE(FitLink({}).has_value());
  EXPECT_FALSE(FitLink(Samples(0, 20, {{1, 8000}})).has_value()) << "one size, and always alone";
  const auto one_step = FitLink({{1, false, 1000, 0.1}});
  ASSERT_TRUE(one_step.has_value());
  EXPECT_TRUE(std::isnan(one_step->bandwidth_error));
  EXPECT_TRUE(std::isnan(one_step->latency_s));
}

}  // namespace
}  // namespace lockstep
