#include <unistd.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/stable_random.h"
#include "gtest/gtest.h"
#include "tests/support/thread_collectives.h"
#include "worker/train/gradient_exchange.h"
#include "worker/train/span_optimizer.h"

namespace lockstep {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(60);

float GradientOf(int rank, int64_t step, int64_t i) {
  const uint64_t bits = Mix({static_cast<uint64_t>(rank), static_cast<uint64_t>(step), static_cast<uint64_t>(i)});
  return static_cast<float>(bits % 20011) / 20011.0f - 0.5f;
}

// Every rank is a thread, with a communication thread of its own. The parameter: ranks of each host.
class HierarchicalExchangeTest : public ::testing::TestWithParam<std::vector<int>> {
 protected:
  struct Rank {
    int rank, host;
    HostWindow* window;
    GradientExchange* exchange;
    Compressor* compressor;
    float* parameters() const { return reinterpret_cast<float*>(window->shared().data()); }
  };

  HierarchicalExchangeTest() {
    for (const int count : GetParam()) {
      hosts_.emplace_back();
      for (int index = 0; index < count; ++index) hosts_.back().push_back(world_++);
    }
  }

  using MakeCompressor = std::function<std::unique_ptr<Compressor>()>;
  void OnRanks(
      const std::function<void(const Rank&)>& body, const MakeCompressor& make = [] { return nullptr; }) {
    const int slices = *std::min_element(GetParam().begin(), GetParam().end());
    ThreadGroup all(world_);
    std::vector<std::unique_ptr<ThreadGroup>> peers;
    for (int slice = 0; slice < slices; ++slice) peers.push_back(std::make_unique<ThreadGroup>(hosts()));
    std::vector<std::thread> threads;
    for (int host = 0; host < hosts(); ++host) {
      for (int index = 0; index < GetParam()[host]; ++index) {
        threads.emplace_back([&, host, index] {
          const auto window = OpenWindow(host, index);
          const auto of_job = all.Rank(hosts_[host][index]);
          const auto of_index = index < slices ? peers[index]->Rank(host) : nullptr;
          HostCollectives collectives(window.get(), of_job.get(), of_index.get(), hosts(), slices);
          CommThread comm(&collectives, kTimeout);
          const auto compressor = make();
          const auto exchange = NewHierarchicalExchange(&layout_, window.get(), &collectives, &comm, compressor.get());
          body({hosts_[host][index], host, window.get(), exchange.get(), compressor.get()});
        });
      }
    }
    for (std::thread& thread : threads) thread.join();
  }

  std::unique_ptr<HostWindow> OpenWindow(int host, int index) const {
    WindowOptions options;
    options.ranks = hosts_[host];
    options.index = index;
    options.name = absl::StrCat("lockstep-hierarchical-", getpid(), "-", host);
    options.rank_bytes = options.shared_bytes = layout_.elements() * static_cast<int64_t>(sizeof(float));
    options.timeout = kTimeout;
    auto window = HostWindow::Open(options);
    EXPECT_TRUE(window.ok()) << window.status();
    return *std::move(window);
  }

  // Up to and with Wait: backward fills bucket by bucket.
  void Exchange(const Rank& on, int64_t step) const {
    on.exchange->BeginStep(step);
    const std::vector<BucketRange> buckets = layout_.Buckets(0.01);
    ASSERT_GT(buckets.size(), 2u);
    for (size_t k = 0; k < buckets.size(); ++k) {
      for (int64_t i = buckets[k].first; i < buckets[k].first + buckets[k].count; ++i) {
        on.exchange->gradients()[i] = GradientOf(on.rank, step, i);
      }
      on.exchange->StartBucket(static_cast<int>(k), buckets[k]);
    }
    StepTail tail;
    tail.samples = on.rank + 1;
    on.exchange->StartTail(&tail);
    const absl::Status status = on.exchange->Wait();
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(tail.samples, world_ * (world_ + 1) / 2);
  }

  float Sum(int64_t step, int64_t i) const {
    float sum = 0;
    for (const std::vector<int>& host : hosts_) {
      float of_host = GradientOf(host[0], step, i);
      for (size_t k = 1; k < host.size(); ++k) of_host += GradientOf(host[k], step, i);
      sum = &host == &hosts_[0] ? of_host : sum + of_host;
    }
    return sum;
  }

  int hosts() const { return static_cast<int>(hosts_.size()); }

  const ParameterLayout layout_ = ParameterLayout(
      {{"a.weight", {37, 211}}, {"a.bias", {37}}, {"b.weight", {5, 37}}, {"b.bias", {5}}, {"c", {3001}}}, Optimizer());
  std::vector<std::vector<int>> hosts_;
  int world_ = 0;
};

void Serial(int64_t begin, int64_t end, const std::function<void(int64_t, int64_t)>& body) { body(begin, end); }

TEST_P(HierarchicalExchangeTest, EveryHostUpdatesEveryElementOnceWithTheSumOverAllRanks) {
  constexpr int64_t kSteps = 50;
  OnRanks([this](const Rank& on) {
    for (int64_t step = 1; step <= kSteps; ++step) {
      Exchange(on, step);
      ASSERT_TRUE(on.exchange
                      ->Update(Serial,
                               [&on](const float* gradients, int64_t first, int64_t count) {
                                 for (int64_t i = first; i < first + count; ++i) on.parameters()[i] += gradients[i];
                               })
                      .ok());
    }
    for (int64_t i = 0; i < layout_.elements(); ++i) {
      float expected = 0;
      for (int64_t step = 1; step <= kSteps; ++step) expected += Sum(step, i);
      ASSERT_EQ(on.parameters()[i], expected) << "element " << i << " on host " << on.host;
    }
    ASSERT_TRUE(on.window->Barrier("looking").ok());
  });
}

// What ranks hold back, here and before a resume in whichever parts, and what was applied add up to all gradients.
TEST_P(HierarchicalExchangeTest, NothingIsLostOfWhatIsHeldBack) {
  constexpr int64_t kSteps = 20;
  for (const CompressionKind kind : {CompressionKind::kTopK, CompressionKind::kPowerSgd}) {
    CompressionOptions options;
    options.kind = kind;
    options.topk_ratio = 0.05;
    options.own_ranges = true;
    std::vector<std::vector<float>> held(world_), parameters(world_);
    const auto before = [](int rank, int64_t i) { return static_cast<float>((rank + i) % 13) * 0.01F; };
    OnRanks(
        [&](const Rank& on) {
          const absl::Span<float> residual = on.compressor->states()[0].values;
          for (int64_t i = 0; i < layout_.elements(); ++i) residual[i] = before(on.rank, i);
          for (int64_t step = 1; step <= kSteps; ++step) {
            Exchange(on, step);
            ASSERT_TRUE(on.exchange
                            ->Update(Serial,
                                     [&on](const float* gradients, int64_t first, int64_t count) {
                                       for (int64_t i = first; i < first + count; ++i) {
                                         on.parameters()[i] += gradients[i];
                                       }
                                     })
                            .ok());
          }
          held[on.rank].assign(residual.begin(), residual.end());
          parameters[on.rank].assign(on.parameters(), on.parameters() + layout_.elements());
          ASSERT_TRUE(on.window->Barrier("looking").ok());
        },
        [&] {
          return NewCompressor(options, layout_.elements(), {{0, 37, 211}, {37 * 211 + 37, 5, 37}});
        });
    for (int64_t i = 0; i < layout_.elements(); ++i) {
      double all = 0, kept = parameters[0][i];
      for (int rank = 0; rank < world_; ++rank) {
        ASSERT_EQ(parameters[rank][i], parameters[0][i]);
        all += before(rank, i);
        kept += held[rank][i];
        for (int64_t step = 1; step <= kSteps; ++step) all += GradientOf(rank, step, i);
      }
      ASSERT_NEAR(kept, all, 2e-4) << "element " << i;
    }
  }
}

TEST_P(HierarchicalExchangeTest, TheNormIsThatOfTheSumAndTheSameBitsOnAllHosts) {
  std::vector<double> norms(world_);
  OnRanks([&](const Rank& on) {
    Exchange(on, 1);
    norms[on.rank] = *on.exchange->SquaredNorm();
    ASSERT_TRUE(on.exchange->Update(Serial, [](const float*, int64_t, int64_t) {}).ok());
  });
  double expected = 0;
  for (int64_t i = 0; i < layout_.elements(); ++i) expected += static_cast<double>(Sum(1, i)) * Sum(1, i);
  EXPECT_NEAR(norms[0], expected, 1e-6 * expected);
  for (const double norm : norms) EXPECT_EQ(norm, norms[0]);
}

INSTANTIATE_TEST_SUITE_P(Hosts, HierarchicalExchangeTest,
                         ::testing::Values(std::vector<int>{1, 1}, std::vector<int>{2, 2}, std::vector<int>{2, 1, 1},
                                           std::vector<int>{1, 3}),
                         [](const auto& info) { return absl::StrJoin(info.param, "And"); });

}  // namespace
}  // namespace lockstep
