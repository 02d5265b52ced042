#include "worker/train/gradient_exchange.h"

#include <unistd.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/stable_random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/thread_collectives.h"
#include "worker/train/span_optimizer.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;

void Serial(int64_t begin, int64_t end, const std::function<void(int64_t, int64_t)>& body) { body(begin, end); }

// Sizes that are no multiples of anything.
ParameterLayout OddLayout() {
  return ParameterLayout({{"a.weight", {37, 211}}, {"a.bias", {37}}, {"b.weight", {5, 37}}, {"b.bias", {5}}},
                         Optimizer());
}

float GradientOf(int rank, int64_t step, int64_t i) {
  return static_cast<float>(
             StableRandom(Mix({7, static_cast<uint64_t>(rank), static_cast<uint64_t>(step), static_cast<uint64_t>(i)}))
                 .Uniform()) -
         0.5f;
}

// Every rank a thread.
class GradientExchangeTest : public ::testing::TestWithParam<int> {
 protected:
  struct Rank {
    int rank;
    HostWindow* window;
    CommThread* comm;
    GradientExchange* exchange;
  };

  void OnRanks(int world, absl::Duration timeout, const std::function<void(const Rank&)>& body) {
    ThreadGroup group(world);
    std::vector<std::thread> ranks;
    for (int rank = 0; rank < world; ++rank) {
      ranks.emplace_back([&, rank] {
        WindowOptions options;
        for (int i = 0; i < world; ++i) options.ranks.push_back(i);
        options.index = rank;
        options.name =
            absl::StrCat("lockstep-exchange-test-", getpid(), "-", ::testing::UnitTest::GetInstance()->random_seed());
        options.rank_bytes = layout_.elements() * static_cast<int64_t>(sizeof(float));
        options.shared_bytes = layout_.elements() * static_cast<int64_t>(sizeof(float));
        options.timeout = timeout;
        auto window = HostWindow::Open(options);
        ASSERT_TRUE(window.ok()) << window.status();
        const auto collectives = group.Rank(rank);
        CommThread comm(collectives.get(), timeout);
        const auto exchange = NewWindowExchange(&layout_, window->get(), &comm, HeldBack(rank));
        body({rank, window->get(), &comm, exchange.get()});
      });
    }
    for (std::thread& rank : ranks) rank.join();
  }

  // What an earlier launch held back, if held_back_ says that it did.
  float HeldBackOf(int rank, int64_t i) const { return static_cast<float>((rank + i) % 5); }
  std::unique_ptr<Compressor> HeldBack(int rank) const {
    if (!held_back_) return nullptr;
    CompressionOptions options;
    options.kind = CompressionKind::kTopK;
    std::unique_ptr<Compressor> compressor = NewCompressor(options, layout_.elements(), {});
    const absl::Span<float> residual = compressor->states()[0].values;
    for (int64_t i = 0; i < layout_.elements(); ++i) residual[i] = HeldBackOf(rank, i);
    return compressor;
  }

  StepTail TailOf(int rank) {
    StepTail tail;
    tail.samples = 10 + rank;
    tail.loss_sum = 0.1 * rank;
    tail.fingerprint = 1ull << rank;
    tail.control = 100 + rank;
    return tail;
  }

  void BeginStep(const Rank& on, int64_t step, StepTail* tail) {
    on.exchange->BeginStep(step);
    for (int64_t i = 0; i < layout_.elements(); ++i) on.exchange->gradients()[i] = GradientOf(on.rank, step, i);
    const std::vector<BucketRange> buckets = layout_.Buckets(0.01);
    for (size_t k = 0; k < buckets.size(); ++k) on.exchange->StartBucket(static_cast<int>(k), buckets[k]);
    *tail = TailOf(on.rank);
    on.exchange->StartTail(tail);
  }

  bool held_back_ = false;
  const ParameterLayout layout_ = OddLayout();
};

TEST_P(GradientExchangeTest, TheRanksTogetherUpdateEveryElementOnceWithTheSumInRankOrder) {
  const int world = GetParam();
  OnRanks(world, absl::Seconds(60), [&](const Rank& on) {
    float* const parameters = reinterpret_cast<float*>(on.window->shared().data());
    for (int64_t step = 1; step <= 3; ++step) {
      StepTail tail;
      BeginStep(on, step, &tail);
      ASSERT_TRUE(on.exchange->Wait().ok());
      EXPECT_EQ(tail.samples, world * (19 + world) / 2);
      EXPECT_EQ(tail.fingerprint, (1ull << world) - 1);
      EXPECT_EQ(tail.control, 100);
      ASSERT_TRUE(on.exchange
                      ->Update(Serial,
                               [&](const float* gradients, int64_t first, int64_t count) {
                                 for (int64_t i = first; i < first + count; ++i) parameters[i] += gradients[i];
                               })
                      .ok());
      for (int64_t i = 0; i < layout_.elements(); i += 11) {
        float expected = 0;
        for (int64_t s = 1; s <= step; ++s) {
          float sum = GradientOf(0, s, i);
          for (int rank = 1; rank < world; ++rank) sum += GradientOf(rank, s, i);
          expected += sum;
        }
        ASSERT_EQ(parameters[i], expected) << i;
      }
      std::vector<Span> spans;
      on.exchange->TakeSpans(&spans);
      ASSERT_EQ(spans.size(), 2u);
      EXPECT_EQ(spans[0].bytes, layout_.elements() * 4);
      EXPECT_EQ(spans[1].name, "tail");
      EXPECT_GE(spans[0].begin_ns, spans[1].end_ns);
      EXPECT_EQ(on.exchange->met_ns(), spans[1].end_ns);
      EXPECT_GE(on.exchange->met_ns(), spans[1].start_ns);
      EXPECT_GE(spans[0].end_ns, spans[0].begin_ns);
      ASSERT_TRUE(on.window->Barrier("looking").ok());
    }
  });
}

TEST_P(GradientExchangeTest, TheNormIsThatOfTheSumAndTheSameBitsOnAllRanks) {
  const int world = GetParam();
  double expected = 0;
  for (int64_t i = 0; i < layout_.elements(); ++i) {
    float sum = 0;
    for (int rank = 0; rank < world; ++rank) sum += GradientOf(rank, 1, i);
    expected += static_cast<double>(sum) * sum;
  }
  std::vector<double> norms(world), updated(world);
  OnRanks(world, absl::Seconds(60), [&](const Rank& on) {
    StepTail tail;
    BeginStep(on, 1, &tail);
    ASSERT_TRUE(on.exchange->Wait().ok());
    norms[on.rank] = *on.exchange->SquaredNorm();
    ASSERT_TRUE(on.exchange
                    ->Update(Serial, [&](const float* gradients, int64_t first,
                                         int64_t count) { updated[on.rank] += SquaredNorm(gradients + first, count); })
                    .ok());
  });
  double all = 0;
  for (int rank = 0; rank < world; ++rank) {
    EXPECT_EQ(norms[rank], norms[0]);
    all += updated[rank];
  }
  EXPECT_NEAR(norms[0], expected, 1e-6 * expected);
  EXPECT_NEAR(all, expected, 1e-6 * expected);
}

INSTANTIATE_TEST_SUITE_P(Ranks, GradientExchangeTest, ::testing::Values(1, 2, 3, 4, 7));

TEST_F(GradientExchangeTest, RanksThatDoNotDoTheSameAreNamed) {
  OnRanks(2, absl::Seconds(20), [&](const Rank& on) {
    StepTail tail;
    if (on.rank == 1) on.comm->StartBarrier("before the tail");
    BeginStep(on, 1, &tail);
    if (on.rank == 0) on.comm->StartBarrier("after the tail");
    const absl::Status status = on.exchange->Wait();
    EXPECT_TRUE(absl::IsFailedPrecondition(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr("ranks 0 and 1 do not run the same collectives"));
  });
}

TEST_F(GradientExchangeTest, WhatAnEarlierLaunchHeldBackGoesIntoTheFirstStepAlone) {
  held_back_ = true;
  constexpr int kWorld = 3;
  OnRanks(kWorld, absl::Seconds(60), [&](const Rank& on) {
    EXPECT_EQ(on.exchange->rank_states().size(), 1u);
    for (int64_t step = 1; step <= 2; ++step) {
      StepTail tail;
      BeginStep(on, step, &tail);
      ASSERT_TRUE(on.exchange->Wait().ok());
      const auto check = [&](const float* gradients, int64_t first, int64_t count) {
        for (int64_t i = first; i < first + count; ++i) {
          float sum = 0;
          for (int rank = 0; rank < kWorld; ++rank) {
            sum += GradientOf(rank, step, i) + (step == 1 ? HeldBackOf(rank, i) : 0);
          }
          ASSERT_NEAR(gradients[i], sum, 1e-4) << "element " << i << ", step " << step;
        }
      };
      ASSERT_TRUE(on.exchange->Update(Serial, check).ok());
      EXPECT_TRUE(on.exchange->rank_states().empty());
    }
  });
}

TEST_F(GradientExchangeTest, ARankThatDoesNotComeIsNamedWithTheStep) {
  OnRanks(3, absl::Seconds(2), [&](const Rank& on) {
    if (on.rank == 1) return;
    StepTail tail;
    BeginStep(on, 41, &tail);
    const absl::Status status = on.exchange->Wait();
    EXPECT_TRUE(absl::IsDeadlineExceeded(status));
    EXPECT_EQ(status.message(), "rank 1 did not come to the reduction of step 41 within 2s: rank 1 does not answer");
  });
}

TEST_F(GradientExchangeTest, ARankThatIsThereAndDoesNotComeInTimeIsLate) {
  std::atomic<int> left{2};
  OnRanks(3, absl::Seconds(2), [&](const Rank& on) {
    if (on.rank == 1) {
      while (left > 0) std::this_thread::yield();
      return;
    }
    StepTail tail;
    BeginStep(on, 41, &tail);
    EXPECT_EQ(on.exchange->Wait().message(),
              "rank 1 did not come to the reduction of step 41 within 2s: rank 1 is there but late");
    --left;
  });
}

}  // namespace
}  // namespace lockstep
