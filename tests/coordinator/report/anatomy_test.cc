#include "coordinator/report/anatomy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/coordinator/report/made_steps.h"

namespace lockstep {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;

TEST(AnatomyTest, CleanRunIsComputeBoundWithoutAnyStraggler) {
  for (const int ranks : {1, 2, 4, 8}) {
    const Anatomy anatomy = Analyze(Steps(ranks, 500));
    EXPECT_EQ(anatomy.verdict.cause(), "compute-bound") << ranks;
    EXPECT_TRUE(anatomy.causes.empty()) << ranks;
    EXPECT_GT(anatomy.verdict.confidence(), 0.95) << ranks;
  }
}

TEST(AnatomyTest, NothingRecordedIsNoFinding) {
  const Anatomy anatomy = Analyze({});
  EXPECT_EQ(anatomy.verdict.cause(), "compute-bound");
  EXPECT_EQ(anatomy.verdict.confidence(), 0);
}

// Two ranks on one clock that send ahead: whoever comes later finds so much of the other's data there, up to half of
// the transfer, and is let go that much earlier.
std::vector<StepTimes> StepsThatSendAhead(double late_ms, double clock_error_s) {
  constexpr double kTransfer = 0.3;
  StableRandom random(7);
  std::vector<StepTimes> steps;
  std::array<double, 2> let_go = {1.7e9, 1.7e9};
  for (int64_t number = 1; number <= 200; ++number) {
    StepTimes& step = steps.emplace_back();
    step.step = number;
    step.incarnation = 1;
    step.clock_error_s = clock_error_s;
    std::array<double, 2> came = {};
    for (int rank = 0; rank < 2; ++rank) {
      RankTimes& times = step.ranks.emplace_back();
      times.rank = rank;
      times.start = let_go[rank];
      times.parts[kForward] = 0.02 * (1 + 0.03 * random.Normal()) + (rank == 1 ? 1e-3 * late_ms : 0);
      came[rank] = times.came();
    }
    const double last = std::max(came[0], came[1]);
    for (int rank = 0; rank < 2; ++rank) {
      const double late = std::max(0.0, came[rank] - came[1 - rank]);
      let_go[rank] = last + kTransfer - std::min(late, kTransfer / 2);
      step.ranks[rank].parts[kCommExposed] = let_go[rank] - came[rank];
    }
  }
  return steps;
}

TEST(AnatomyTest, WhatALateRankMakesUpForByBeingLetGoEarlierIsNotSavedWithoutIt) {
  const std::vector<StepTimes> clean = StepsThatSendAhead(0, 1e-6), slow = StepsThatSendAhead(120, 1e-6);
  const double gained = MeanStep(slow) - MeanStep(clean);
  ASSERT_LT(gained, 0.08) << "of 120 ms";
  const auto straggler = [](const std::vector<StepTimes>& steps) {
    for (const Finding& cause : Analyze(steps).causes) {
      if (cause.cause() == "straggler-bound") return cause;
    }
    return Finding();
  };
  const Finding found = straggler(slow);
  EXPECT_THAT(found.ranks(), ElementsAre(1));
  EXPECT_EQ(found.persistence(), "persistent");
  EXPECT_NEAR(found.saving_s_per_step(), gained, 0.1 * gained);
  EXPECT_EQ(Analyze(slow).causes.size(), 2u) << "the transfer, and no other straggler";
  // Where clocks do not tell, each rank's own work does: who is late, and the delay itself.
  EXPECT_NEAR(straggler(StepsThatSendAhead(120, 0.1)).saving_s_per_step(), 0.12, 0.005);
}

TEST(AnatomyTest, WhatLiesBetweenTwoStepsIsNobodysLateness) {
  std::vector<StepTimes> steps = StepsThatSendAhead(0, 1e-6);
  for (size_t i = 0; i < steps.size(); ++i) {
    for (RankTimes& rank : steps[i].ranks) rank.start += 5.0 * static_cast<double>(i / 10);  // an evaluation
  }
  EXPECT_NEAR(Analyze(steps).step_s, 0.32, 0.005);
}

TEST(AnatomyTest, WaitingForDataIsInputBoundOnOneRankOrOnAll) {
  for (const int rank : {-1, 2}) {
    const std::vector<StepTimes> clean = Steps(4, 500), slow = Steps(4, 500, Late(rank, kDataWait, 9));
    const Anatomy anatomy = Analyze(slow);
    EXPECT_EQ(anatomy.verdict.cause(), "input-bound") << rank;
    EXPECT_THAT(anatomy.verdict.ranks(), ElementsAreArray(rank < 0 ? std::vector<int>() : std::vector<int>{rank}));
    const double gained = MeanStep(slow) - MeanStep(clean);
    EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), gained, 0.15 * gained) << rank;
  }
}

TEST(AnatomyTest, TransferThatNothingHidesIsCommunicationBound) {
  const Anatomy anatomy = Analyze(Steps(4, 500, Late(0, kOther, 0), /*transfer_ms=*/30));
  EXPECT_EQ(anatomy.verdict.cause(), "communication-bound");
  EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), 0.030, 1e-6);
  ASSERT_EQ(anatomy.causes.size(), 1u);
  EXPECT_NEAR(anatomy.transfer_s, 0.030, 1e-6);
}

TEST(AnatomyTest, ALateRankOnASlowLinkAreTwoCauses) {
  const Anatomy anatomy = Analyze(Steps(4, 500, Late(3, kBackward, 10), /*transfer_ms=*/30));
  ASSERT_EQ(anatomy.causes.size(), 2u);
  EXPECT_EQ(anatomy.causes[0].cause(), "communication-bound");
  EXPECT_EQ(anatomy.causes[1].cause(), "straggler-bound");
  EXPECT_THAT(anatomy.causes[1].ranks(), ElementsAre(3));
  EXPECT_NEAR(anatomy.causes[1].saving_s_per_step(), 0.010, 0.0015);
}

TEST(AnatomyTest, OfCausesThatHideBehindEachOtherTheFirstSavesByItselfAndTheNextAfterIt) {
  const Fault later = Late(2, kBackward, 20), late = Late(5, kForward, 12);
  const auto with = [](const std::vector<Fault>& faults) {
    return Steps(8, 500, [&](int64_t step, RankTimes* times) {
      for (const Fault& fault : faults) fault(step, times);
    });
  };
  const double both = MeanStep(with({later, late})), one = MeanStep(with({late})), none = MeanStep(with({}));
  const Anatomy anatomy = Analyze(with({later, late}));
  ASSERT_EQ(anatomy.causes.size(), 2u);
  EXPECT_THAT(anatomy.causes[0].ranks(), ElementsAre(2));
  EXPECT_NEAR(anatomy.causes[0].saving_s_per_step(), both - one, 0.0015);
  EXPECT_FALSE(anatomy.causes[0].after_others());
  EXPECT_THAT(anatomy.causes[1].ranks(), ElementsAre(5));
  EXPECT_NEAR(anatomy.causes[1].saving_s_per_step(), one - none, 0.0015);
  EXPECT_TRUE(anatomy.causes[1].after_others());
  EXPECT_GT(anatomy.verdict.confidence(), 0.9);
}

// On one clock: ranks of `per_host` hosts each (0: one host) update when all have come, and those of a host are let go
// when the last of them is done with its part. `fault` changes what a rank does.
std::vector<StepTimes> StepsOfSharedUpdates(int ranks, const Fault& fault, double transfer_s = 0.001,
                                            int per_host = 0) {
  StableRandom random(7);
  std::vector<StepTimes> steps;
  std::map<int, double> now;  // by the first rank of a host
  for (int64_t number = 1; number <= 300; ++number) {
    StepTimes& step = steps.emplace_back();
    step.step = number;
    step.incarnation = 1;
    double came = 0;
    std::map<int, double> update;
    for (int rank = 0; rank < ranks; ++rank) {
      RankTimes& times = step.ranks.emplace_back();
      times.rank = rank;
      times.updates_with = per_host == 0 ? 0 : rank / per_host * per_host;
      times.start = now.emplace(times.updates_with, 1000).first->second;
      times.parts[kForward] = 0.010 * (1 + 0.01 * random.Normal());
      times.parts[kBackward] = 0.020 * (1 + 0.01 * random.Normal());
      times.parts[kOptimizer] = 0.004 * (1 + 0.01 * random.Normal());
      fault(number, &times);
      came = std::max(came, times.came());
      update[times.updates_with] = std::max(update[times.updates_with], times.parts[kOptimizer]);
    }
    for (const auto& [first, longest] : update) now[first] = came + transfer_s + longest;
    for (RankTimes& times : step.ranks) times.parts[kCommExposed] = now[times.updates_with] - times.let_go();
  }
  return steps;
}

void ForgetClocks(std::vector<StepTimes>* steps) {
  for (StepTimes& step : *steps) {
    for (RankTimes& times : step.ranks) times.start = 0;
  }
}

// The rank whose part takes long is as early to come as another is late.
TEST(AnatomyTest, TheOthersWaitForAPartOfASharedUpdate) {
  for (const bool on_one_clock : {true, false}) {
    std::vector<StepTimes> steps = StepsOfSharedUpdates(3, [](int64_t, RankTimes* times) {
      Late(1, kBackward, -4)(0, times);
      Late(1, kOptimizer, 10)(0, times);
    });
    if (!on_one_clock) ForgetClocks(&steps);
    const Anatomy anatomy = Analyze(steps);
    EXPECT_EQ(anatomy.verdict.cause(), "straggler-bound");
    EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(1));
    EXPECT_EQ(anatomy.verdict.kind(), "optimizer");
    EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), 0.010, 0.0002);
    EXPECT_NEAR(anatomy.transfer_s, 0.001, 0.0001);
    EXPECT_THAT(WaitsOf(steps, 200),
                ElementsAre(DoubleNear(0.0102, 0.001), DoubleNear(0.0043, 0.001), DoubleNear(0.0102, 0.001)));
    ASSERT_EQ(anatomy.lateness.size(), 3u);
    EXPECT_NEAR(anatomy.lateness[1].late_s, 0.006, 0.0005);
  }
}

// Ranks 2 and 3 of another host do not wait for it, but for ranks 0 and 1 then.
TEST(AnatomyTest, OfSeveralHostsThoseOfOneWaitForAPartOfTheUpdateAndTheOthersForThem) {
  for (const bool on_one_clock : {true, false}) {
    std::vector<StepTimes> steps = StepsOfSharedUpdates(4, Late(1, kOptimizer, 10), 0.002, /*per_host=*/2);
    if (!on_one_clock) ForgetClocks(&steps);
    const Anatomy anatomy = Analyze(steps);
    ASSERT_EQ(anatomy.causes.size(), 1u) << on_one_clock;
    EXPECT_EQ(anatomy.verdict.cause(), "straggler-bound");
    EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(1));
    EXPECT_EQ(anatomy.verdict.kind(), "optimizer");
    EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), 0.010, 0.0003);
    EXPECT_NEAR(anatomy.transfer_s, 0.002, 0.0002);
    EXPECT_THAT(WaitsOf(steps, 200), ElementsAre(DoubleNear(0.010, 0.001), DoubleNear(0, 0.001),
                                                 DoubleNear(0.010, 0.001), DoubleNear(0.010, 0.001)));
    EXPECT_NEAR(anatomy.lateness[1].late_s, 0.010, 0.0005);
    EXPECT_NEAR(anatomy.lateness[0].late_s, 0, 0.0005);
  }
}

// A rank of the other host that is late as well hides it, or is hidden, and each costs only what it is beyond the
// other: whether one of them alone is noticeable or none, what both cost is found.
TEST(AnatomyTest, AnUpdateOfOneHostAndALateRankOfAnotherAreFoundTogether) {
  const auto steps = [](double update_ms, double late_ms) {
    return StepsOfSharedUpdates(
        4,
        [=](int64_t, RankTimes* times) {
          Late(1, kOptimizer, update_ms)(0, times);
          Late(2, kForward, late_ms)(0, times);
        },
        0.002, /*per_host=*/2);
  };
  const double none = MeanStep(steps(0, 0));
  for (const double late_ms : {0.0, 2.0, 6.0, 7.0, 9.0, 10.0, 12.0, 14.0, 20.0}) {
    for (const bool on_one_clock : {true, false}) {
      std::vector<StepTimes> both = steps(10, late_ms);
      const double step = MeanStep(both);
      if (!on_one_clock) ForgetClocks(&both);
      double saved = 0;
      std::set<int> ranks;
      const Anatomy anatomy = Analyze(both);
      for (const Finding& cause : anatomy.causes) {
        EXPECT_EQ(cause.cause(), "straggler-bound") << late_ms;
        saved += cause.saving_s_per_step();
        ranks.insert(cause.ranks().begin(), cause.ranks().end());
      }
      // The lesser one may be too little to be named once the other is gone.
      EXPECT_NEAR(saved, step - none, late_ms == 2 ? 0.0025 : 0.0008) << late_ms << on_one_clock;
      EXPECT_EQ(ranks, late_ms < 3 ? std::set<int>({1}) : std::set<int>({1, 2})) << late_ms << on_one_clock;
    }
  }
}

// Of two hosts with two ranks each, which share their host's update; the rest is `set`'s.
std::vector<StepTimes> StepsOfTwoHosts(const Fault& set) {
  std::vector<StepTimes> steps;
  for (int64_t number = 1; number <= 300; ++number) {
    StepTimes& step = steps.emplace_back();
    step.step = number;
    step.incarnation = 1;
    for (int rank = 0; rank < 4; ++rank) {
      RankTimes& times = step.ranks.emplace_back();
      times.rank = rank;
      times.updates_with = rank / 2 * 2;
      times.parts[kForward] = 0.010;
      times.parts[kBackward] = 0.020;
      set(number, &times);
    }
  }
  return steps;
}

// 150 ms of the reduction are left when the ranks begin to update what has come. Rank 1, which takes 200 ms longer for
// its part, holds its host up by what is then left of them, and with it the other host at the next reduction.
TEST(AnatomyTest, AnUpdateThatGoesOnDuringTheReductionCostsWhatIsBeyondIt) {
  const std::vector<StepTimes> steps = StepsOfTwoHosts([](int64_t step, RankTimes* times) {
    times->start = 1000 + 0.236 * static_cast<double>(step) - (times->rank > 1 ? 0.050 : 0);
    times->parts[kCommExposed] = times->rank == 1 ? 0.001 : 0.201;
    times->parts[kOptimizer] = times->rank == 1 ? 0.205 : 0.005;
    times->update_wait = times->rank == 0 ? 0.050 : 0;
  });
  const Anatomy anatomy = Analyze(steps);
  EXPECT_NEAR(anatomy.step_s, 0.236, 0.001);
  ASSERT_EQ(anatomy.causes.size(), 2u);
  EXPECT_EQ(anatomy.causes[0].cause(), "communication-bound");
  EXPECT_NEAR(anatomy.causes[0].saving_s_per_step(), 0.151, 0.001);
  EXPECT_EQ(anatomy.causes[1].cause(), "straggler-bound");
  EXPECT_THAT(anatomy.causes[1].ranks(), ElementsAre(1));
  EXPECT_EQ(anatomy.causes[1].kind(), "optimizer");
  EXPECT_NEAR(anatomy.causes[1].saving_s_per_step(), 0.050, 0.001);
}

// A host's leader, which has its gradients until the exchange with the other host is done.
TEST(AnatomyTest, TheExchangeOfAHostsLeaderIsTransferAndNoUpdate) {
  const std::vector<StepTimes> steps = StepsOfTwoHosts([](int64_t, RankTimes* times) {
    times->parts[kOptimizer] = 0.002;
    times->parts[kCommExposed] = 0.085;
    times->update_wait = times->rank % 2 == 0 ? 0 : 0.080;
  });
  const Anatomy anatomy = Analyze(steps);
  ASSERT_EQ(anatomy.causes.size(), 1u);
  EXPECT_EQ(anatomy.verdict.cause(), "communication-bound");
  EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), 0.085, 0.001);
}

// A processor that is slow is slow in everything: each meeting alone would be too little to be named.
TEST(AnatomyTest, ARankThatIsLateInBothMeetingsIsOneCause) {
  const Fault slow = [](int64_t, RankTimes* times) {
    Late(1, kForward, 2)(0, times);
    Late(1, kOptimizer, 2)(0, times);
  };
  const std::vector<StepTimes> slower = StepsOfSharedUpdates(4, slow);
  const double gained = MeanStep(slower) - MeanStep(StepsOfSharedUpdates(4, [](int64_t, RankTimes*) {}));
  const Anatomy anatomy = Analyze(slower);
  ASSERT_EQ(anatomy.causes.size(), 1u);
  EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(1));
  EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), gained, 0.1 * gained);
}

TEST(AnatomyTest, AnotherRankThatIsLateInEachSharedUpdateIsARotatingStraggler) {
  const Anatomy anatomy = Analyze(StepsOfSharedUpdates(4, [](int64_t step, RankTimes* times) {
    if (static_cast<int>(Mix({7, static_cast<uint64_t>(step)}) % 4) == times->rank) Late(-1, kOptimizer, 20)(0, times);
  }));
  EXPECT_EQ(anatomy.verdict.cause(), "straggler-bound");
  EXPECT_EQ(anatomy.verdict.persistence(), "rotating");
  EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), 0.020, 0.001);
}

TEST(AnatomyTest, SlowInputThatHidesALateRankComesFirst) {
  const Anatomy anatomy = Analyze(Steps(4, 500, [](int64_t step, RankTimes* times) {
    Late(0, kDataWait, 15)(step, times);
    Late(2, kForward, 10)(step, times);
  }));
  ASSERT_EQ(anatomy.causes.size(), 2u);
  EXPECT_EQ(anatomy.causes[0].cause(), "input-bound");
  EXPECT_THAT(anatomy.causes[0].ranks(), ElementsAre(0));
  EXPECT_NEAR(anatomy.causes[0].saving_s_per_step(), 0.005, 0.0015);
  EXPECT_THAT(anatomy.causes[1].ranks(), ElementsAre(2));
  EXPECT_TRUE(anatomy.causes[1].after_others());
}

TEST(AnatomyTest, WhatCostsOnlyTogetherIsOneCause) {
  const std::vector<StepTimes> slow = Steps(4, 500, [](int64_t step, RankTimes* times) {
    Late(0, kDataWait, 10)(step, times);
    Late(2, kForward, 10)(step, times);
  });
  const Anatomy anatomy = Analyze(slow);
  ASSERT_EQ(anatomy.causes.size(), 1u);
  EXPECT_EQ(anatomy.verdict.cause(), "straggler-bound");
  EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(0, 2));
  EXPECT_EQ(anatomy.verdict.kind(), "data_wait, forward");
  EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), MeanStep(slow) - MeanStep(Steps(4, 500)), 0.001);
}

TEST(AnatomyTest, AHostThatWasReplacedIsTheLateOne) {
  const std::string alpha = "alpha", beta = "beta", gamma = "gamma";
  std::vector<StepTimes> steps = Steps(2, 400, [](int64_t step, RankTimes* times) {
    if (step <= 200) Late(1, kForward, 15)(step, times);
  });
  for (StepTimes& step : steps) {
    step.incarnation = step.step <= 200 ? 1 : 2;
    step.ranks[0].host = &alpha;
    step.ranks[1].host = step.step <= 200 ? &beta : &gamma;
  }
  EXPECT_THAT(Analyze(steps).verdict.hosts(), ElementsAre("beta"));
}

// Two ranks that meet every eighth step, and average their parameters after that step's update: what one is late adds
// up until then, in whatever part.
TEST(AnatomyTest, OfLocalStepsTheMeetingsCount) {
  for (const Part part : {kForward, kOptimizer, kOther}) {
    StableRandom random(7);
    std::vector<StepTimes> steps;
    std::array<double, 2> now = {1.7e9, 1.7e9};
    for (int64_t number = 1; number <= 400; ++number) {
      StepTimes& step = steps.emplace_back();
      step.step = number;
      step.meets = number % 8 == 0;
      double came = 0, update = 0;
      for (int rank = 0; rank < 2; ++rank) {
        RankTimes& times = step.ranks.emplace_back();
        times.rank = rank;
        times.start = now[rank];
        times.updates_with = 0;
        times.parts[kForward] = 0.1 * (1 + 0.03 * random.Normal());
        times.parts[kOptimizer] = 0.01;
        times.parts[kOther] = 0.001;
        if (rank == 1) times.parts[part] += 0.011;
        came = std::max(came, times.came());
        update = std::max(update, times.parts[kOptimizer]);
      }
      for (int rank = 0; rank < 2; ++rank) {
        RankTimes& times = step.ranks[rank];
        if (step.meets) times.parts[kCommExposed] = came + update + 0.002 - times.let_go();
        now[rank] += times.step();
      }
    }
    const std::vector<StepTimes> meetings = Meetings(steps);
    ASSERT_EQ(meetings.size(), 50u);
    EXPECT_EQ(meetings[3].count, 8);
    const Anatomy anatomy = Analyze(meetings);
    ASSERT_EQ(anatomy.causes.size(), 1u) << PartName(part);
    EXPECT_THAT(anatomy.causes[0].ranks(), ElementsAre(1));
    EXPECT_EQ(anatomy.causes[0].persistence(), "persistent");
    EXPECT_EQ(anatomy.causes[0].kind(), PartName(part));
    EXPECT_NEAR(anatomy.causes[0].saving_s_per_step(), 0.011, 0.001) << PartName(part);
    EXPECT_NEAR(anatomy.transfer_s, 0.002 / 8, 0.0002) << PartName(part);
    EXPECT_NEAR(anatomy.step_s, 0.122, 0.002);
    EXPECT_NEAR(anatomy.lateness[1].late_s, 0.011, 0.001) << "a step";
    steps.erase(steps.begin() + 20, steps.begin() + 22);
    EXPECT_EQ(Meetings(steps).size(), 49u) << "a series with a gap is none";
  }
}

TEST(AnatomyTest, FewerSamplesOnARankAreNoFasterComputer) {
  const auto half = [](int64_t, RankTimes* times) {
    for (double& part : times->parts) part /= 2;
  };
  std::vector<StepTimes> steps = Steps(2, 300), more = Steps(4, 300, half, /*transfer_ms=*/1);
  for (StepTimes& step : steps) step.incarnation = 1;
  for (StepTimes& step : more) {
    step.incarnation = 2;
    step.step += 300;
  }
  steps.insert(steps.end(), more.begin(), more.end());
  EXPECT_THAT(Analyze(steps).causes, IsEmpty());
  EXPECT_THAT(Analyze(more, {steps.begin(), steps.begin() + 300}).causes, IsEmpty());
}

TEST(AnatomyTest, OneSlowStepIsNoSlowComputer) {
  EXPECT_THAT(Analyze(Steps(2, 40,
                            [](int64_t step, RankTimes* times) {
                              if (step == 1) times->parts[kForward] += 0.4;
                            }))
                  .causes,
              IsEmpty());
}

TEST(AnatomyTest, ComputingThatIsSlowerInSomeOfTheStepsIsNamedOverAnySpan) {
  const std::vector<StepTimes> all = Steps(2, 100, [](int64_t step, RankTimes* times) {
    if (step > 30) Late(-1, kBackward, 60)(step, times);
  });
  for (const auto& [first, last] : std::vector<std::pair<int, int>>{{1, 50}, {21, 60}, {31, 100}}) {
    std::vector<StepTimes> others = all;
    const std::vector<StepTimes> steps(all.begin() + first - 1, all.begin() + last);
    others.erase(others.begin() + first - 1, others.begin() + last);
    const Anatomy anatomy = Analyze(steps, others);
    const double share = static_cast<double>(last - std::max(first - 1, 30)) / (last - first + 1);
    EXPECT_EQ(anatomy.verdict.kind(), "slower") << first;
    EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), 0.060 * share, 0.006) << first;
  }
}

TEST(AnatomyTest, AnotherLateRankEachStepThatALateRankOrSlowInputHidesSavesAfterIt) {
  const Fault waits = [](int64_t, RankTimes* times) {
    times->parts[kDataWait] = std::max(0.0, 0.100 - times->compute());
  };
  for (const int ranks : {2, 4}) {
    const Fault jitter = Jitter(3, ranks, 1, 20);
    for (const auto& [cause, hides] : std::vector<std::pair<std::string, Fault>>{
             {"straggler-bound", Late(1, kForward, 40)}, {"input-bound", waits}}) {
      const auto both = [&, hides = hides](int64_t step, RankTimes* times) {
        jitter(step, times);
        hides(step, times);
      };
      const double with = MeanStep(Steps(ranks, 400, both)), left = MeanStep(Steps(ranks, 400, jitter)),
                   none = MeanStep(Steps(ranks, 400));
      const Anatomy anatomy = Analyze(Steps(ranks, 400, both));
      ASSERT_EQ(anatomy.causes.size(), 2u) << cause << ranks;
      EXPECT_EQ(anatomy.causes[0].cause(), cause);
      EXPECT_FALSE(anatomy.causes[0].after_others());
      EXPECT_NEAR(anatomy.causes[0].saving_s_per_step(), with - left, 0.15 * (with - left)) << cause << ranks;
      EXPECT_EQ(anatomy.causes[1].persistence(), "rotating") << cause << ranks;
      EXPECT_TRUE(anatomy.causes[1].after_others()) << cause << ranks;
      EXPECT_NEAR(anatomy.causes[1].saving_s_per_step(), left - none, 0.15 * (left - none)) << cause << ranks;
    }
  }
}

// All are let go when the last has come, and wait for data then: what made one late only made that wait shorter.
TEST(AnatomyTest, ALateRankSavesNothingWhileAllWaitForData) {
  std::vector<StepTimes> steps = Steps(2, 200, Late(1, kForward, 30));
  for (StepTimes& step : steps) {
    for (RankTimes& rank : step.ranks) rank.parts[kDataWait] += 0.100;
  }
  for (const bool had_data : {false, true}) {
    for (StepTimes& step : steps) {
      for (RankTimes& rank : step.ranks) rank.had_data = had_data;
    }
    const Anatomy anatomy = Analyze(steps);
    ASSERT_EQ(anatomy.causes.size(), 2u);
    EXPECT_EQ(anatomy.verdict.cause(), "input-bound");
    EXPECT_THAT(anatomy.causes[1].ranks(), ElementsAre(1));
    EXPECT_NEAR(anatomy.causes[1].saving_s_per_step(), 0.030, 0.002);
    EXPECT_EQ(anatomy.causes[1].after_others(), !had_data);
  }
}

// The next batch comes no earlier for it.
TEST(AnatomyTest, WhatElseTakesLongSavesNothingWhileTheRanksWaitForData) {
  const Fault waits = [](int64_t, RankTimes* times) { times->parts[kDataWait] = 0.100 - times->compute(); };
  const Anatomy slower = Analyze(Steps(2, 200,
                                       [&](int64_t step, RankTimes* times) {
                                         Late(-1, kBackward, 20)(step, times);
                                         waits(step, times);
                                       }),
                                 Steps(2, 200));
  ASSERT_EQ(slower.causes.size(), 2u);
  EXPECT_EQ(slower.verdict.cause(), "input-bound");
  EXPECT_EQ(slower.causes[1].kind(), "slower");
  EXPECT_TRUE(slower.causes[1].after_others());
  EXPECT_NEAR(slower.causes[1].saving_s_per_step(), 0.020, 0.001);
  const Anatomy transfer = Analyze(Steps(2, 200, waits, 60));
  ASSERT_EQ(transfer.causes.size(), 2u);
  EXPECT_EQ(transfer.verdict.cause(), "input-bound");
  EXPECT_EQ(transfer.causes[1].cause(), "communication-bound");
  EXPECT_TRUE(transfer.causes[1].after_others());
}

TEST(AnatomyTest, ComputingThatIsSlowerThanInOtherStepsIsNamedAndNoLateRankIsTakenForIt) {
  for (const Part part : {kForward, kBackward, kOptimizer}) {
    const Anatomy slower = Analyze(Steps(4, 200, Late(-1, part, 10)), Steps(4, 200));
    EXPECT_EQ(slower.verdict.cause(), "compute-bound");
    EXPECT_EQ(slower.verdict.kind(), "slower");
    EXPECT_NEAR(slower.verdict.saving_s_per_step(), 0.010, 0.0005);
    EXPECT_GT(slower.verdict.confidence(), 0.95);
  }
  const Anatomy late = Analyze(Steps(4, 200, Late(1, kBackward, 10)), Steps(4, 200));
  ASSERT_EQ(late.causes.size(), 1u);
  EXPECT_EQ(late.causes[0].cause(), "straggler-bound");
}

TEST(AnatomyTest, EfficienciesAreThoseOfPop) {
  // Useful 30 and 20 ms, of steps of 40.
  std::vector<StepTimes> steps(10);
  for (size_t i = 0; i < steps.size(); ++i) {
    steps[i].step = static_cast<int64_t>(i) + 1;
    steps[i].ranks.resize(2);
    steps[i].ranks[0].parts = {0, 0.010, 0.020, 0.010, 0, 0};
    steps[i].ranks[1].rank = 1;
    steps[i].ranks[1].parts = {0, 0.010, 0.010, 0.020, 0, 0};
  }
  const ReportEfficiency efficiency = Analyze(steps).efficiency;
  EXPECT_NEAR(efficiency.load_balance(), 25.0 / 30, 1e-9);
  EXPECT_NEAR(efficiency.communication(), 30.0 / 40, 1e-9);
  EXPECT_NEAR(efficiency.parallel(), 25.0 / 40, 1e-9);
}

TEST(AnatomyTest, LatenessIsAgainstTheMedianRankAndTheLast) {
  const Anatomy anatomy = Analyze(Steps(4, 200, Late(3, kForward, 10)));
  ASSERT_EQ(anatomy.lateness.size(), 4u);
  EXPECT_EQ(anatomy.lateness[3].last, 200);
  EXPECT_NEAR(anatomy.lateness[3].late_s, 0.010, 0.001);
  EXPECT_NEAR(anatomy.lateness[0].early_s[10], 0.010, 0.003);
  EXPECT_EQ(anatomy.lateness[3].early_s[10], 0);
}

}  // namespace
}  // namespace lockstep
