#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "common/base/stable_random.h"
#include "gtest/gtest.h"
#include "tests/support/thread_collectives.h"
#include "worker/train/gradient_exchange.h"

namespace lockstep {
namespace {

constexpr int kRanks = 3;
constexpr double kLr = 0.1;

float GradientOf(int rank, int64_t step, int64_t i) {
  const uint64_t bits = Mix({static_cast<uint64_t>(rank), static_cast<uint64_t>(step), static_cast<uint64_t>(i)});
  return static_cast<float>(bits % 2003) / 2003.0f - 0.5f;
}

// Samples of a rank at a step; rank 2 has none at some.
int64_t SamplesOf(int rank, int64_t step) { return rank == 2 && step % 3 == 0 ? 0 : 4 + rank + step % 2; }

void Serial(int64_t begin, int64_t end, const std::function<void(int64_t, int64_t)>& body) { body(begin, end); }

// Every rank is a thread with parameters of its own.
class LocalExchangeTest : public ::testing::Test {
 protected:
  struct Rank {
    int rank;
    GradientExchange* exchange;
    std::vector<float>* parameters;
    std::vector<float>* momentum;
  };

  void OnRanks(bool average_states, const std::function<void(const Rank&)>& body) {
    ThreadGroup group(kRanks);
    std::vector<std::thread> ranks;
    for (int rank = 0; rank < kRanks; ++rank) {
      ranks.emplace_back([&, rank] {
        const auto collectives = group.Rank(rank);
        CommThread comm(collectives.get(), absl::Seconds(60));
        std::vector<float> parameters(layout_.elements(), 1.0f), momentum(layout_.elements(), 0.0f);
        LocalReplica replica;
        replica.parameters = parameters.data();
        replica.states = {{"momentum", absl::MakeSpan(momentum)}};
        replica.average_states = average_states;
        const auto exchange = NewLocalExchange(&layout_, replica, &comm);
        body({rank, exchange.get(), &parameters, &momentum});
      });
    }
    for (std::thread& rank : ranks) rank.join();
  }

  // One step with plain SGD; the momentum array remembers the last gradient.
  StepTail Step(const Rank& on, int64_t step, bool synchronises, int broken = -1) {
    on.exchange->BeginStep(step, synchronises);
    const int64_t samples = SamplesOf(on.rank, step);
    for (int64_t i = 0; i < layout_.elements(); ++i) {
      on.exchange->gradients()[i] = samples > 0 ? GradientOf(on.rank, step, i) : 0;
    }
    StepTail tail;
    tail.samples = samples;
    tail.loss_sum = static_cast<double>(samples);
    tail.fingerprint = uint64_t{1} << (8 * on.rank);
    tail.control = 7;
    if (on.rank == broken) tail.non_finite_rank = on.rank;
    on.exchange->StartTail(&tail);
    EXPECT_TRUE(on.exchange->Wait().ok());
    if (tail.non_finite_rank >= 0) return tail;
    const auto apply = [&](const float* gradients, int64_t first, int64_t count) {
      for (int64_t i = first; i < first + count; ++i) {
        (*on.parameters)[i] -= static_cast<float>(kLr) * gradients[i];
        (*on.momentum)[i] = gradients[i];
      }
    };
    EXPECT_TRUE(on.exchange->Update(Serial, apply).ok());
    return tail;
  }

  const ParameterLayout layout_ = ParameterLayout({{"a", {37, 21}}, {"b", {5}}}, Optimizer());
};

TEST_F(LocalExchangeTest, ParametersAreTheMeanByTheSamplesOfThePeriod) {
  std::vector<std::vector<float>> after(kRanks);
  OnRanks(false, [&](const Rank& on) {
    for (int64_t step = 1; step <= 4; ++step) Step(on, step, step == 4);
    after[on.rank] = *on.parameters;
  });
  for (int64_t i = 0; i < layout_.elements(); ++i) {
    double mean = 0, all = 0;
    for (int rank = 0; rank < kRanks; ++rank) {
      double value = 1, samples = 0;
      for (int64_t step = 1; step <= 4; ++step) {
        if (SamplesOf(rank, step) > 0) value -= kLr * GradientOf(rank, step, i);
        samples += static_cast<double>(SamplesOf(rank, step));
      }
      mean += value * samples;
      all += samples;
    }
    ASSERT_NEAR(after[0][i], mean / all, 1e-5) << i;
    for (int rank = 1; rank < kRanks; ++rank) ASSERT_EQ(after[rank][i], after[0][i]) << "replicas differ";
  }
}

TEST_F(LocalExchangeTest, TailsBetweenSynchronisationsAreEmptyAndCountInTheNext) {
  OnRanks(false, [&](const Rank& on) {
    int64_t all = 0;
    for (int64_t step = 1; step <= 6; ++step) {
      for (int rank = 0; rank < kRanks; ++rank) all += SamplesOf(rank, step);
      const StepTail tail = Step(on, step, step % 3 == 0);
      if (step % 3 != 0) {
        EXPECT_EQ(tail.samples, 0);
        EXPECT_EQ(tail.fingerprint, 0u);
        EXPECT_EQ(tail.control, 0) << "a directive can be obeyed only where all ranks read of it";
        continue;
      }
      EXPECT_EQ(tail.samples, all);
      EXPECT_EQ(tail.loss_sum, static_cast<double>(all));
      EXPECT_EQ(tail.fingerprint, 3u * 0x010101);
      EXPECT_EQ(tail.control, 7);
      all = 0;
    }
  });
}

TEST_F(LocalExchangeTest, StepsBetweenSynchronisationsSendNothing) {
  OnRanks(true, [&](const Rank& on) {
    std::vector<Span> spans;
    Step(on, 1, false);
    on.exchange->TakeSpans(&spans);
    EXPECT_TRUE(spans.empty());
    Step(on, 2, true);
    on.exchange->TakeSpans(&spans);
    EXPECT_EQ(spans.size(), 3u);  // tail, parameters, momentum
  });
}

TEST_F(LocalExchangeTest, StatesAreAveragedOrStayEachRanksOwnAndAreToldOf) {
  for (const bool average : {true, false}) {
    std::vector<std::vector<float>> momentum(kRanks);
    OnRanks(average, [&](const Rank& on) {
      Step(on, 1, true);
      momentum[on.rank] = *on.momentum;
      const std::vector<RankState> states = on.exchange->rank_states();
      ASSERT_EQ(states.size(), average ? 0u : 1u);
      if (average) return;
      EXPECT_EQ(states[0].name, "momentum");
      EXPECT_EQ(states[0].values.data(), on.momentum->data());
      EXPECT_EQ(states[0].share, RankState::Share::kMean);
    });
    EXPECT_EQ(momentum[1] == momentum[0], average);
  }
}

TEST_F(LocalExchangeTest, WhatIsNotFiniteOnOneRankIsToldToAllAtTheNextSynchronisation) {
  OnRanks(false, [&](const Rank& on) {
    EXPECT_EQ(Step(on, 1, false, /*broken=*/1).non_finite_rank, -1);
    const std::vector<float> before = *on.parameters;
    EXPECT_EQ(Step(on, 2, false).non_finite_rank, -1);
    EXPECT_EQ(*on.parameters == before, on.rank == 1) << "only the rank that is broken stands still";
    EXPECT_EQ(Step(on, 3, true).non_finite_rank, 1);
  });
}

}  // namespace
}  // namespace lockstep
