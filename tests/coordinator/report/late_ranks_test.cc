#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "coordinator/report/anatomy.h"
#include "tests/coordinator/report/made_steps.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;

TEST(LateRanksTest, ALateRankIsNamedWithThePartInWhichItIsLate) {
  for (const Part part : {kForward, kBackward, kOptimizer, kOther}) {
    for (const int ranks : {2, 4, 8}) {
      const std::vector<StepTimes> clean = Steps(ranks, 500), slow = Steps(ranks, 500, Late(1, part, 8));
      const Anatomy anatomy = Analyze(slow);
      EXPECT_EQ(anatomy.verdict.cause(), "straggler-bound") << ranks << PartName(part);
      EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(1));
      EXPECT_EQ(anatomy.verdict.kind(), PartName(part));
      EXPECT_EQ(anatomy.verdict.persistence(), "persistent");
      const double gained = MeanStep(slow) - MeanStep(clean);
      EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), gained, 0.1 * gained) << ranks;
      EXPECT_LE(anatomy.verdict.saving_low_s(), anatomy.verdict.saving_s_per_step());
      EXPECT_GE(anatomy.verdict.saving_high_s(), anatomy.verdict.saving_s_per_step());
      EXPECT_GT(anatomy.verdict.confidence(), 0.95);
    }
  }
}

TEST(LateRanksTest, ARankThatIsLateForAPartOfTheStepsCostsThatMuchInThem) {
  const Fault late = Late(1, kForward, 20);
  const auto from_half = [&](int64_t step, RankTimes* times) {
    if (step > 200) late(step, times);
  };
  const std::vector<StepTimes> clean = Steps(4, 500), slow = Steps(4, 500, from_half);
  const Anatomy anatomy = Analyze(slow);
  EXPECT_EQ(anatomy.verdict.cause(), "straggler-bound");
  EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(1));
  const double gained = MeanStep(slow) - MeanStep(clean);
  EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), gained, 0.1 * gained);
}

// A noise cannot be told from so few; but whose turn it is can.
TEST(LateRanksTest, OfAFewStepsTheRankThatIsTheLastInAllIsNamed) {
  for (const int count : {1, 2, 3, 5, 6}) {
    for (const int ranks : {2, 4}) {
      const Anatomy anatomy = Analyze(Steps(ranks, count, Late(1, kForward, 20)));
      ASSERT_EQ(anatomy.causes.size(), 1u) << count << " " << ranks;
      EXPECT_EQ(anatomy.verdict.cause(), "straggler-bound");
      EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(1)) << count << " " << ranks;
      EXPECT_EQ(anatomy.verdict.persistence(), "persistent");
    }
  }
  const Anatomy turns = Analyze(Steps(4, 5, [](int64_t step, RankTimes* times) {
    if (step % 4 == times->rank) Late(-1, kForward, 20)(0, times);
  }));
  EXPECT_EQ(turns.verdict.persistence(), "rotating");
  EXPECT_THAT(turns.verdict.ranks(), IsEmpty());
}

TEST(LateRanksTest, AnotherLateRankEachStepIsRotating) {
  const auto drawn = [](int ranks) {
    return [ranks](int64_t step, RankTimes* times) {
      if (Mix({42, static_cast<uint64_t>(step)}) % ranks == static_cast<uint64_t>(times->rank))
        times->parts[kForward] += 8e-3;
    };
  };
  for (const int ranks : {2, 4, 8}) {
    const std::vector<StepTimes> clean = Steps(ranks, 500), slow = Steps(ranks, 500, drawn(ranks));
    const Anatomy anatomy = Analyze(slow);
    EXPECT_EQ(anatomy.verdict.cause(), "straggler-bound") << ranks;
    EXPECT_EQ(anatomy.verdict.persistence(), "rotating");
    EXPECT_THAT(anatomy.verdict.ranks(), IsEmpty());
    const double gained = MeanStep(slow) - MeanStep(clean);
    EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), gained, 0.15 * gained) << ranks;
  }
}

TEST(LateRanksTest, TwoLateRanksAreBothNamed) {
  const Anatomy anatomy = Analyze(Steps(8, 500, [](int64_t step, RankTimes* times) {
    Late(2, kBackward, 20)(step, times);
    Late(5, kForward, 8)(step, times);
  }));
  ASSERT_EQ(anatomy.causes.size(), 2u);
  EXPECT_THAT(anatomy.causes[0].ranks(), ElementsAre(2));
  EXPECT_NEAR(anatomy.causes[0].saving_s_per_step(), 0.012, 0.0015) << "the other one is late still";
  EXPECT_THAT(anatomy.causes[1].ranks(), ElementsAre(5));
}

TEST(LateRanksTest, ALateRankIsToldFromUnevenSteps) {
  constexpr double kNoise = 0.15;  // of each part: 3.4 ms of a rank's work
  for (const int ranks : {2, 4}) {
    EXPECT_THAT(Analyze(Steps(
                            ranks, 300, [](int64_t, RankTimes*) {}, 3, kNoise))
                    .verdict.persistence(),
                "")
        << ranks;
    const Anatomy late = Analyze(Steps(ranks, 100, Late(1, kForward, 7), 3, kNoise));
    EXPECT_THAT(late.verdict.ranks(), ElementsAre(1)) << ranks;
    const Anatomy drawn = Analyze(Steps(
        ranks, 100,
        [&](int64_t step, RankTimes* times) {
          const uint64_t rank = Mix({5, static_cast<uint64_t>(step)}) % static_cast<uint64_t>(ranks);
          if (rank == static_cast<uint64_t>(times->rank)) times->parts[kForward] += 9e-3;
        },
        3, kNoise));
    EXPECT_EQ(drawn.verdict.persistence(), "rotating") << ranks;
  }
}

// A slow host: removing one of its ranks alone would save nothing.
TEST(LateRanksTest, RanksThatAreLateAlikeAreOneCause) {
  for (const int ranks : {4, 8}) {
    const std::vector<StepTimes> clean = Steps(ranks, 500),
                                 slow = Steps(ranks, 500, [&](int64_t step, RankTimes*times) {
                                   if (times->rank >= ranks / 2)
                                     Late(-1, kBackward, times->rank == ranks / 2 ? 11 : 10)(step, times);
                                 });
    const Anatomy anatomy = Analyze(slow);
    ASSERT_EQ(anatomy.causes.size(), 1u) << ranks;
    EXPECT_EQ(anatomy.verdict.cause(), "straggler-bound");
    EXPECT_EQ(anatomy.verdict.persistence(), "persistent");
    EXPECT_EQ(anatomy.verdict.kind(), "backward");
    std::vector<int> slower;
    for (int rank = ranks / 2; rank < ranks; ++rank) slower.push_back(rank);
    EXPECT_THAT(anatomy.verdict.ranks(), ElementsAreArray(slower));
    const double gained = MeanStep(slow) - MeanStep(clean);
    EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), gained, 0.1 * gained) << ranks;
  }
}

TEST(LateRanksTest, RanksThatAreLateAlikeForDifferentReasonsAreOneStragglerWithBoth) {
  const Anatomy anatomy = Analyze(Steps(8, 500, [](int64_t step, RankTimes* times) {
    Late(2, kDataWait, 10)(step, times);
    Late(5, kForward, 10)(step, times);
  }));
  ASSERT_EQ(anatomy.causes.size(), 1u);
  EXPECT_EQ(anatomy.verdict.cause(), "straggler-bound");
  EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(2, 5));
  EXPECT_EQ(anatomy.verdict.kind(), "data_wait, forward");
}

TEST(LateRanksTest, ALateRankInFewerThanHalfOfTheStepsIsNamedWithTheirShare) {
  const std::vector<StepTimes> clean = Steps(4, 900), slow = Steps(4, 900, [](int64_t step, RankTimes*times) {
                                                        if (step > 300 && step <= 600)
                                                          Late(1, kForward, 30)(step, times);
                                                      });
  const Anatomy anatomy = Analyze(slow);
  EXPECT_EQ(anatomy.verdict.cause(), "straggler-bound");
  EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(1));
  EXPECT_NEAR(anatomy.verdict.steps_share(), 1.0 / 3, 1e-9);
  const double gained = MeanStep(slow) - MeanStep(clean);
  EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), gained, 0.1 * gained);
}

TEST(LateRanksTest, ARankThatIsLateForAFewStepsIsNamedThoughTheyMakeUpMostOfTheTime) {
  for (const int ranks : {2, 4}) {
    for (const auto& [first, last] : std::vector<std::pair<int, int>>{{51, 70}, {1, 20}, {101, 120}, {33, 53}}) {
      const std::vector<StepTimes> clean = Steps(ranks, 120);
      const std::vector<StepTimes> slow = Steps(ranks, 120, [&](int64_t step, RankTimes* times) {
        if (step >= first && step <= last) Late(1, kBackward, 300)(step, times);
      });
      const Anatomy anatomy = Analyze(slow);
      ASSERT_EQ(anatomy.causes.size(), 1u) << ranks << ": " << first;
      EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(1));
      EXPECT_NEAR(anatomy.verdict.steps_share(), (last - first + 1) / 120.0, 0.01);
      const double gained = MeanStep(slow) - MeanStep(clean);
      EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), gained, 0.05 * gained) << ranks << ": " << first;
    }
  }
}

TEST(LateRanksTest, ARankThatIsLateForAFewStepsSeveralTimesIsNamed) {
  const Anatomy anatomy = Analyze(Steps(2, 240, [](int64_t step, RankTimes* times) {
    if (step % 80 >= 40 && step % 80 < 60) Late(1, kBackward, 60)(step, times);
  }));
  ASSERT_EQ(anatomy.causes.size(), 1u);
  EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(1));
  EXPECT_NEAR(anatomy.verdict.steps_share(), 0.25, 0.05);
}

TEST(LateRanksTest, ARankThatIsLateInShortRowsIsNamedOnceThereAreEnoughOfThem) {
  const auto rows = [](int64_t every, int64_t length) {
    return Analyze(Steps(2, 120, [=](int64_t step, RankTimes* times) {
      if (step % every < length) Late(1, kBackward, 60)(step, times);
    }));
  };
  for (const auto& [every, length] : std::vector<std::pair<int64_t, int64_t>>{{16, 8}, {35, 14}, {40, 20}}) {
    const Anatomy anatomy = rows(every, length);
    ASSERT_EQ(anatomy.causes.size(), 1u) << every;
    EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(1)) << every;
    EXPECT_EQ(anatomy.verdict.persistence(), "persistent") << every;
    const double share = static_cast<double>(length) / static_cast<double>(every);
    EXPECT_NEAR(anatomy.verdict.steps_share(), share, 0.1) << every;
    EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), 0.060 * anatomy.verdict.steps_share(), 0.002) << every;
  }
  EXPECT_THAT(rows(1000, 12).causes, IsEmpty()) << "an accident";
}

TEST(LateRanksTest, OfLateRanksTheNextOneIsSeenBehindTheFirst) {
  for (const int ranks : {3, 4, 8}) {
    for (const int64_t first : {1, 81}) {  // of 160 steps
      const Anatomy anatomy = Analyze(Steps(ranks, 160, [&](int64_t step, RankTimes* times) {
        if (step < first) return;
        Late(0, kForward, 200)(step, times);
        Late(1, kForward, 80)(step, times);
      }));
      ASSERT_EQ(anatomy.causes.size(), 2u) << ranks << ": " << first;
      const double share = static_cast<double>(161 - first) / 160;
      for (const int rank : {0, 1}) {
        EXPECT_THAT(anatomy.causes[rank].ranks(), ElementsAre(rank));
        EXPECT_EQ(anatomy.causes[rank].persistence(), "persistent");
        EXPECT_NEAR(anatomy.causes[rank].saving_s_per_step(), (rank == 0 ? 0.120 : 0.080) * share, 0.003);
        EXPECT_EQ(anatomy.causes[rank].after_others(), rank == 1);
      }
    }
  }
}

// A row of late steps that may be an accident is not another rank each time, though it is most of the steps.
TEST(LateRanksTest, OneRankThatIsTheLastIsNotRotating) {
  for (const int64_t first : {5, 8, 10}) {  // of 16 steps
    const Anatomy anatomy = Analyze(Steps(3, 16, [&](int64_t step, RankTimes* times) {
      if (step >= first) Late(1, kForward, 150)(step, times);
    }));
    for (const Finding& cause : anatomy.causes) EXPECT_EQ(cause.persistence(), "persistent") << first;
    EXPECT_EQ(anatomy.causes.size(), first < 10 ? 1 : 0) << first;
  }
}

TEST(LateRanksTest, WhatAnotherRankIsLateEachStepMayChange) {
  const auto both = [](int64_t step, RankTimes* times) { Jitter(3, 3, 1, step > 100 ? 200 : 40)(step, times); };
  const std::vector<StepTimes> clean = Steps(3, 200), slow = Steps(3, 200, both);
  const double gained = MeanStep(slow) - MeanStep(clean);
  EXPECT_NEAR(Analyze(slow).verdict.saving_s_per_step(), gained, 0.1 * gained);
}

TEST(LateRanksTest, WhoIsLateByChanceIsNoLateRankHoweverOftenOneLooks) {
  int named = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (const int ranks : {2, 4}) {
      for (const double share : {0.3, 0.7, 1.0}) {
        for (const auto& [first, last] : std::vector<std::pair<int64_t, int64_t>>{{1, 120}, {41, 80}}) {
          const Anatomy anatomy = Analyze(Steps(ranks, 120, Jitter(seed, ranks, share, 30, first, last)));
          for (const Finding& cause : anatomy.causes) named += cause.ranks().empty() ? 0 : 1;
        }
      }
    }
  }
  EXPECT_LE(named, 3) << "of 1200";
}

TEST(LateRanksTest, RanksThatAreLateInDifferentStepsAreTwoCauses) {
  const Anatomy anatomy = Analyze(Steps(4, 600, [](int64_t step, RankTimes* times) {
    if (times->rank == (step <= 300 ? 0 : 3)) times->parts[kForward] += 20e-3;
  }));
  ASSERT_EQ(anatomy.causes.size(), 2u);
  for (const Finding& cause : anatomy.causes) {
    EXPECT_EQ(cause.ranks_size(), 1);
    EXPECT_NEAR(cause.saving_s_per_step(), 10e-3, 1e-3);
    EXPECT_NEAR(cause.steps_share(), 0.5, 1e-9);
  }
}

// As with more than 64 ranks: some are followed, and of the others the last of each step are on record.
TEST(LateRanksTest, ARankThatIsRecordedOnlyWhereItComesLateIsNotLateElsewhere) {
  for (const bool always : {false, true}) {
    std::vector<StepTimes> steps = Steps(8, 500, [&](int64_t step, RankTimes* times) {
      if (times->rank == 7 && (always || step % 5 == 0)) times->parts[kForward] += 20e-3;
    });
    for (StepTimes& step : steps) {
      const bool last = always || step.step % 5 == 0;
      step.ranks.erase(step.ranks.begin() + 4, last ? step.ranks.begin() + 7 : step.ranks.end());
    }
    const Anatomy anatomy = Analyze(steps);
    EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(7));
    EXPECT_NEAR(anatomy.verdict.steps_share(), always ? 1 : 0.2, 1e-9);
  }
}

TEST(LateRanksTest, OfManyRanksThoseOfASlowHostAreNamedThoughTheyAreNotFollowed) {
  const auto slow_host = [](int64_t, RankTimes* times) {
    if (times->rank == 13 || times->rank == 15) times->parts[kForward] += 20e-3;
  };
  for (const bool slow : {false, true}) {
    std::vector<StepTimes> steps = slow ? Steps(16, 500, slow_host) : Steps(16, 500);
    for (size_t i = 0; i < steps.size(); ++i) {
      const std::vector<double> waits = WaitsOf(steps, i);
      std::vector<double> sorted = waits;
      std::sort(sorted.begin(), sorted.end());
      std::vector<RankTimes> kept;
      for (size_t rank = 0; rank < waits.size(); ++rank) {
        if (rank % 2 == 0 || waits[rank] <= sorted[3]) kept.push_back(steps[i].ranks[rank]);
      }
      steps[i].ranks = std::move(kept);
    }
    const Anatomy anatomy = Analyze(steps);
    if (slow) {
      EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(13, 15));
      EXPECT_EQ(anatomy.verdict.persistence(), "persistent");
    } else {
      EXPECT_THAT(anatomy.causes, IsEmpty());
    }
  }
}

TEST(LateRanksTest, ARankThatIsLateInEveryTenthStepIsNamedWithTheirShare) {
  for (const int ranks : {2, 4}) {
    const Fault stops = [](int64_t step, RankTimes* times) {
      if (times->rank == 1 && step % 10 == 0) times->parts[kOther] += 60e-3;
    };
    const std::vector<StepTimes> clean = Steps(ranks, 400), slow = Steps(ranks, 400, stops);
    const Anatomy anatomy = Analyze(slow);
    EXPECT_EQ(anatomy.verdict.cause(), "straggler-bound");
    EXPECT_THAT(anatomy.verdict.ranks(), ElementsAre(1)) << ranks;
    EXPECT_EQ(anatomy.verdict.kind(), "other");
    EXPECT_NEAR(anatomy.verdict.steps_share(), 0.1, 0.003);  // what comes after a reduction is late in the next step
    const double gained = MeanStep(slow) - MeanStep(clean);
    EXPECT_NEAR(anatomy.verdict.saving_s_per_step(), gained, 0.1 * gained);
  }
}

TEST(LateRanksTest, RanksThatAllStopNowAndThenAreNotNamedNorIsOneThatStopsSeldom) {
  const auto stops = [](double of_rank_1, double of_others) {
    return [=](int64_t step, RankTimes* times) {
      const double drawn =
          StableRandom(Mix({9, static_cast<uint64_t>(step), static_cast<uint64_t>(times->rank)})).Uniform();
      if (drawn < (times->rank == 1 ? of_rank_1 : of_others)) times->parts[kForward] += 60e-3;
    };
  };
  for (const int ranks : {2, 4, 8}) {
    EXPECT_THAT(Analyze(Steps(ranks, 400, stops(0.1, 0.1))).verdict.ranks(), IsEmpty()) << ranks;
    EXPECT_THAT(Analyze(Steps(ranks, 100, stops(0.1, 0))).verdict.ranks(), IsEmpty()) << ranks;
    EXPECT_THAT(Analyze(Steps(ranks, 400, stops(0.2, 0.02))).verdict.ranks(), ElementsAre(1)) << ranks;
  }
}

}  // namespace
}  // namespace lockstep
