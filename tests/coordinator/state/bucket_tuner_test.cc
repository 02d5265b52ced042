// The tuner against simulated step times.
#include "coordinator/state/bucket_tuner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "common/base/stable_random.h"
#include "tests/coordinator/state/state_testing.h"

namespace lockstep {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// Seconds of step `step` with buckets of so many MiB, before noise.
using StepTime = std::function<double(double bucket_mb, int64_t step)>;

// 100 ms at the best size, and so much more for each factor of 2 away from it.
StepTime Valley(double best_mb, double rise) {
  return [=](double bucket_mb, int64_t) { return 0.1 * (1 + rise * std::abs(std::log2(bucket_mb / best_mb))); };
}
StepTime Flat() {
  return [](double, int64_t) { return 0.1; };
}

struct Tuned {
  double bucket_mb = 0;
  int moves = 0;
  int64_t steps = 0;
  std::string reason;  // of the last move
  std::vector<double> tried;
};

// Noise as step times have it: a few per cent either way, and now and then a step that takes half as long again.
Tuned Tune(double start_mb, const StepTime& time, double noise, uint64_t seed) {
  BucketTuner tuner(start_mb);
  StableRandom random(Mix({seed}));
  Tuned tuned;
  while (!tuner.over() && tuned.moves < 200) {
    BucketsMeasured block;
    block.set_bucket_mb(tuner.in_force_mb());
    for (int i = 0; i < BucketTuner::kBlockSteps; ++i) {
      const double outlier = random.Below(20) == 0 ? 0.5 * random.Uniform() : 0;
      block.add_step_s(time(tuner.in_force_mb(), tuned.steps++) * (1 + noise * random.Normal() + outlier));
    }
    tuner.Measured(block);
    EXPECT_TRUE(tuner.next().has_value()) << "a move follows on every block";
    if (!tuner.next()) break;
    tuned.bucket_mb = tuner.next()->bucket_mb;
    tuned.reason = tuner.next()->reason;
    if (tuned.tried.empty() || tuned.tried.back() != tuned.bucket_mb) tuned.tried.push_back(tuned.bucket_mb);
    tuner.Moved();
    ++tuned.moves;
  }
  EXPECT_TRUE(tuner.over()) << "it stops";
  EXPECT_EQ(tuner.in_force_mb(), tuned.bucket_mb);
  return tuned;
}

TEST(BucketTunerTest, WithoutNoiseItGoesDownToTheBestSizeAndSaysTheGain) {
  const Tuned tuned = Tune(25, Valley(6.25, 0.05), 0, 1);
  EXPECT_EQ(tuned.bucket_mb, 6.25);
  EXPECT_THAT(tuned.reason, HasSubstr("bucket_mb 12.5 → 6.25: step 105 → 100 ms, −4.8% ± "));
  EXPECT_THAT(tuned.reason, StartsWith("bucket_mb 25 → 12.5: step 110 → 105 ms, −4.5% ± "));
}

TEST(BucketTunerTest, OrUp) {
  EXPECT_EQ(Tune(25, Valley(100, 0.05), 0, 1).bucket_mb, 100);
  EXPECT_EQ(Tune(25, Valley(25, 0.05), 0, 1).bucket_mb, 25);
}

TEST(BucketTunerTest, ThroughNoiseItFindsTheValley) {
  int right = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const Tuned tuned = Tune(25, Valley(6.25, 0.05), 0.03, seed);
    right += tuned.bucket_mb == 6.25 ? 1 : 0;
    EXPECT_LE(tuned.steps, 25 * 8 * 5) << "seed " << seed;
  }
  EXPECT_GE(right, 190);
}

TEST(BucketTunerTest, ItDoesNotChaseNoise) {
  int moved = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    const Tuned tuned = Tune(25, Flat(), 0.03, seed);
    if (tuned.bucket_mb != 25) ++moved;
    if (tuned.bucket_mb == 25) {
      EXPECT_THAT(tuned.reason, StartsWith("bucket_mb 25 is kept, no other was faster (12.5: "));
    }
  }
  EXPECT_LE(moved, 6) << "of 300: what looks faster by three errors is so by chance seldom";
}

// A machine that gets slower and slower, whatever the size.
TEST(BucketTunerTest, ItDoesNotTakeADriftForAGain) {
  int moved = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    const auto drift = [](double, int64_t step) { return 0.1 * (1 + 0.0005 * static_cast<double>(step)); };
    moved += Tune(25, drift, 0.01, seed).bucket_mb == 25 ? 0 : 1;
    const auto jumps = [seed](double, int64_t step) {
      return step / 25 % 7 == static_cast<int64_t>(seed % 7) ? 0.12 : 0.1;
    };
    moved += Tune(25, jumps, 0.01, seed).bucket_mb == 25 ? 0 : 1;
  }
  EXPECT_LE(moved, 4);
}

TEST(BucketTunerTest, ItStaysWithinReachOfWhatIsSet) {
  for (const double rise : {-0.1, 0.1}) {
    const auto slope = [rise](double bucket_mb, int64_t) { return 0.1 * std::exp(rise * std::log2(bucket_mb)); };
    EXPECT_EQ(Tune(16, slope, 0, 1).bucket_mb, rise > 0 ? 1 : 256);
  }
  EXPECT_EQ(Tune(
                65536, [](double mb, int64_t) { return 1 / mb; }, 0, 1)
                .bucket_mb,
            65536);
}

RunConfig TuningConfig() {
  RunConfig config = SmallConfig();
  config.mutable_communication()->set_bucket_tuning(BUCKET_TUNING_AUTO);
  config.mutable_communication()->set_bucket_mb(25);
  config.mutable_convergence()->set_max_epochs(1000);
  config.mutable_control()->set_grant_steps(1000000);
  return config;
}

BucketsMeasured Block(double bucket_mb, int64_t first_step, double step_s) {
  BucketsMeasured block;
  block.set_bucket_mb(bucket_mb);
  block.set_first_step(first_step);
  block.set_last_step(first_step + BucketTuner::kBlockSteps - 1);
  for (int i = 0; i < BucketTuner::kBlockSteps; ++i) block.add_step_s(step_s);
  return block;
}

std::vector<Decision> Measure(JournalDriver* run, const BucketsMeasured& block) {
  Update update;
  *update.mutable_buckets_measured() = block;
  return run->Fact(std::move(update));
}

Update ChosenIn(const JournalDriver& run, const std::string& structure) {
  Update update;
  *update.mutable_communication_chosen() = Chosen(run.state.incarnation());
  update.mutable_communication_chosen()->set_structure(structure);
  return update;
}

TEST(BucketsTest, EachChangeIsADecisionWithADirectiveThatTheJournalExplains) {
  JournalDriver run(Started(TuningConfig()));
  run.GrantAll();
  int64_t step = 1;
  double in_force = 25;
  for (int block = 0; block < 50; ++block, step += 28) {
    const std::vector<Decision> made = Measure(&run, Block(in_force, step, in_force == 12.5 ? 0.09 : 0.1));
    ASSERT_EQ(Rules(made), "buckets/bucket_tuning");
    EXPECT_EQ(made[0].step(), step + 24);
    const Directive& directive = run.state.directives().back();
    EXPECT_EQ(directive.number(), made[0].directive());
    in_force = directive.set_buckets().bucket_mb();
    if (directive.set_buckets().measure_steps() == 0) break;
  }
  EXPECT_EQ(in_force, 12.5);
  EXPECT_TRUE(absl::IsFailedPrecondition(run.state.CheckBuckets(Block(12.5, step, 0.1)))) << "it is over";
  RunState replayed;
  for (const Update& update : run.updates) ASSERT_EQ(replayed.Apply(update), absl::OkStatus());
  ASSERT_EQ(replayed.directives().size(), run.state.directives().size());
  for (size_t i = 0; i < replayed.directives().size(); ++i) {
    EXPECT_EQ(replayed.directives()[i].SerializeAsString(), run.state.directives()[i].SerializeAsString());
  }
  // A search that was over at the checkpoint stays over, however often the run goes on from there.
  for (int resumes = 0; resumes < 2; ++resumes) {
    CheckpointState from = run.state.StateAt(CursorAt(step + 30, false));
    from.set_bucket_mb(in_force);
    run.Resume(from, TuningConfig());
    EXPECT_EQ(Rules(run.Fact(ChosenIn(run, "replicated"))), "");
  }
  CheckpointState before = run.state.StateAt(CursorAt(step - 1, false));
  before.set_bucket_mb(in_force);
  run.Resume(before, TuningConfig());
  EXPECT_EQ(Rules(run.Fact(ChosenIn(run, "replicated"))), "buckets/bucket_tuning") << "it was not over by then";
}

TEST(BucketsTest, TimesThatNobodyAsksForAreRefused) {
  JournalDriver plain(Started(SmallConfig()));
  plain.GrantAll();
  EXPECT_TRUE(absl::IsFailedPrecondition(plain.state.CheckBuckets(Block(25, 1, 0.1))));
  JournalDriver run(Started(TuningConfig()));
  run.GrantAll();
  EXPECT_EQ(run.state.CheckBuckets(Block(25, 1, 0.1)), absl::OkStatus());
  EXPECT_TRUE(absl::IsFailedPrecondition(run.state.CheckBuckets(Block(12.5, 1, 0.1)))) << "another size";
  BucketsMeasured wrong = Block(25, 1, 0.1);
  wrong.set_step_s(3, std::nan(""));
  EXPECT_TRUE(absl::IsInvalidArgument(run.state.CheckBuckets(wrong)));
  wrong = Block(25, 1, 0.1);
  wrong.set_last_step(20);
  EXPECT_TRUE(absl::IsInvalidArgument(run.state.CheckBuckets(wrong)));
  EXPECT_TRUE(absl::IsInvalidArgument(run.state.CheckBuckets(Block(25, int64_t{1} << 40, 0.1)))) << "not granted";
}

TEST(BucketsTest, AResumeInMidSearchSearchesAnewFromTheSizeInForceWhereThereAreBuckets) {
  JournalDriver run(Started(TuningConfig()));
  run.GrantAll();
  Measure(&run, Block(25, 1, 0.1));
  CheckpointState from = run.state.StateAt(CursorAt(30, false));
  from.set_bucket_mb(12.5);
  EXPECT_EQ(Rules(run.Resume(from, TuningConfig())), "");
  EXPECT_EQ(Rules(run.Fact(ChosenIn(run, "shared"))), "");
  run.GrantAll();
  EXPECT_TRUE(absl::IsFailedPrecondition(run.state.CheckBuckets(Block(12.5, 40, 0.1))));
  run.Resume(from, TuningConfig());
  const std::vector<Decision> made = run.Fact(ChosenIn(run, "replicated"));
  ASSERT_EQ(Rules(made), "buckets/bucket_tuning");
  EXPECT_EQ(made[0].reason(), "bucket_mb 12.5, in force at step 30, is measured: the search begins anew");
  EXPECT_EQ(run.state.directives().back().set_buckets().bucket_mb(), 12.5);
  EXPECT_EQ(run.state.directives().back().set_buckets().measure_steps(), BucketTuner::kBlockSteps);
  run.GrantAll();
  EXPECT_TRUE(absl::IsFailedPrecondition(run.state.CheckBuckets(Block(25, 40, 0.1))));
  EXPECT_EQ(Rules(Measure(&run, Block(12.5, 40, 0.1))), "buckets/bucket_tuning");
  run.Resume(run.state.StateAt(CursorAt(0, false)), TuningConfig());
  run.GrantAll();
  EXPECT_EQ(run.state.CheckBuckets(Block(25, 1, 0.1)), absl::OkStatus()) << "from the initial weights it begins anew";
}

TEST(BucketsTest, AfterAStopNothingIsTriedAnyMore) {
  JournalDriver run(Started(TuningConfig()));
  run.GrantAll();
  run.AskToStop(false);
  EXPECT_EQ(Rules(Measure(&run, Block(25, 1, 0.1))), "");
}

}  // namespace
}  // namespace lockstep
