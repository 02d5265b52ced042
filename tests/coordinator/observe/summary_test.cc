#include "coordinator/observe/summary.h"

#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/match.h"
#include "nlohmann/json.hpp"
#include "tests/coordinator/observe/observe_testing.h"

namespace lockstep {
namespace {

using absl::StrContains;

RunFigures Figures() {
  RunFigures figures;
  figures.steps = 2500;
  figures.ranks = 2;
  figures.incarnations = 1;
  figures.step_time_s = 25.9;
  figures.samples_per_s = 12345.6;
  figures.overlap_ratio = 0.63;
  figures.slowest_rank = 1;
  figures.slowest_share = 0.624;
  figures.slowest_host = "node-b.example";
  figures.epochs.resize(5);
  figures.parts = {{"data_wait", 0.00012, 0.0001, 0.0003, 0.0116},
                   {"forward", 0.0031, 0.003, 0.0034, 0.2989},
                   {"backward", 0.0052, 0.0051, 0.006, 0.5014},
                   {"comm_exposed", 0.00044, 0.0004, 0.0009, 0.0424},
                   {"optimizer", 0.0012, 0.0012, 0.0013, 0.1157},
                   {"other", 0.00031, 0.0003, 0.0004, 0.0299},
                   {"step", 0.01037, 0.0101, 0.0123, 1}};
  figures.decisions = {Decided("stop", "patience",
                               "accuracy 0.9791 at step 1000 was not bettered in the 3 evaluations after it (0.9770, "
                               "0.9785, 0.9791)",
                               2500),
                       Decided("checkpoint", "best", "accuracy 0.9791 is the best so far", 1000)};
  return figures;
}

SummaryContext Context() {
  SummaryContext context;
  context.name = "digits-cnn";
  context.folder = "runs/digits-cnn";
  context.metric = "accuracy";
  context.best_step = 1000;
  context.best_value = 0.9791;
  context.elapsed_s = 31;
  context.last_checkpoint = 2500;
  return context;
}

TEST(SummaryTest, SaysWhyWhatHowFastAndWhatNext) {
  EXPECT_EQ(FormatSummary(Figures(), Context()),
            R"(Run digits-cnn: converged: no better accuracy (patience), exit code 0
  accuracy 0.9791 at step 1000 was not bettered in the 3 evaluations after it (0.9770, 0.9785,
  0.9791)

Best           accuracy 0.9791 at step 1,000
Trained        2,500 steps, 5 epochs completed, 12,346 samples/s inside steps
Time           31.0 s, 83.5% of it inside steps
Overlap        63.0% of communication ran behind computing
Slowest rank   rank 1 on node-b.example came last in 62.4% of the steps (an even share is 50.0%)

Where the time went, over 2 ranks and 2,500 steps:
  part of a step  mean ms  p50 ms  p95 ms   share
  data_wait         0.120   0.100   0.300    1.2%
  forward           3.100   3.000   3.400   29.9%
  backward          5.200   5.100   6.000   50.1%
  comm_exposed      0.440   0.400   0.900    4.2%
  optimizer         1.200   1.200   1.300   11.6%
  other             0.310   0.300   0.400    3.0%
  step             10.370  10.100  12.300  100.0%

Folder         runs/digits-cnn
Checkpoints    runs/digits-cnn/checkpoints, the last of step 2,500
The model      runs/digits-cnn/checkpoints/best/model.safetensors
To use it      lockstep evaluate runs/digits-cnn
To go on       lockstep run --resume runs/digits-cnn --set convergence.patience=…
)");
}

TEST(SummaryTest, IsAtMost100ColumnsWide) {
  RunFigures figures = Figures();
  figures.rolled_back_steps = 123456789;
  figures.rolled_back_time_s = 1e6;
  figures.slowest_host = std::string(60, 'h');
  figures.parts[0].p95_s = 12345;
  SummaryContext context = Context();
  context.target = 0.99;
  context.why = "a long story of what happened to the run, told in far more words than anybody needs to understand it";
  context.exit_code = 1;
  EXPECT_LE(WidestLine(FormatSummary(figures, context)), 100) << FormatSummary(figures, context);
}

TEST(SummaryTest, TellsTheTimeToTheTargetOrThatItWasNotReached) {
  RunFigures figures = Figures();
  SummaryContext context = Context();
  context.target = 0.98;
  EXPECT_TRUE(StrContains(FormatSummary(figures, context), "Target         accuracy 0.9800 not reached\n"));
  figures.time_to_target_s = 12.34;
  EXPECT_TRUE(StrContains(FormatSummary(figures, context), "Target         accuracy 0.9800 reached after 12.3 s\n"));
  context.target.reset();
  EXPECT_TRUE(StrContains(FormatSummary(figures, context), "Target         accuracy reached after 12.3 s\n"));
}

TEST(SummaryTest, TellsOfWhatWasRolledBack) {
  RunFigures figures = Figures();
  figures.incarnations = 2;
  figures.rolled_back_steps = 1;
  figures.rolled_back_time_s = 2.878;
  const std::string text = FormatSummary(figures, Context());
  EXPECT_TRUE(
      StrContains(text, "Goodput        90.0% of the time inside steps survives; 1 step (2.88 s) was rolled back\n"))
      << text;
  EXPECT_TRUE(StrContains(text, "inside steps, in 2 launches\n")) << text;
}

TEST(SummaryTest, OneRankHasNoSlowestAndNoOverlap) {
  RunFigures figures = Figures();
  figures.ranks = 1;
  figures.slowest_rank = 0;
  const std::string text = FormatSummary(figures, Context());
  EXPECT_FALSE(StrContains(text, "Slowest")) << text;
  EXPECT_FALSE(StrContains(text, "Overlap")) << text;
  EXPECT_TRUE(StrContains(text, "over 1 rank and 2,500 steps:")) << text;
}

TEST(SummaryTest, ARunThatWasStoppedByASignalGoesOnAsItIs) {
  SummaryContext context = Context();
  context.exit_code = 3;
  context.stop = Decided("stop", "signal", "SIGINT to lockstep run", 40);
  context.folder = "my runs/a";
  const std::string text = FormatSummary(Figures(), context);
  EXPECT_TRUE(StrContains(text, "Run digits-cnn: stopped by a signal, exit code 3\n  SIGINT to lockstep run\n"))
      << text;
  EXPECT_TRUE(StrContains(text, "To go on       lockstep run --resume 'my runs/a'\n")) << text;
}

TEST(SummaryTest, ARunThatDiedAtOnceStillHasASummary) {
  SummaryContext context;
  context.name = "r";
  context.folder = "runs/r";
  context.exit_code = 1;
  context.why = "worker 0 could not start";
  EXPECT_EQ(FormatSummary(RunFigures(), context), R"(Run r: ended without a decision to stop, exit code 1
  worker 0 could not start

Trained        0 steps

Folder         runs/r
Checkpoints    none was committed; a new run starts afresh
)");
}

TEST(SummaryTest, BeforeAnEvaluationTheLatestModelIsTheOneToUse) {
  SummaryContext context = Context();
  context.best_step = -1;
  const std::string text = FormatSummary(Figures(), context);
  EXPECT_FALSE(StrContains(text, "Best ")) << text;
  EXPECT_TRUE(StrContains(text, "checkpoints/latest/model.safetensors")) << text;
}

TEST(SummaryJsonTest, HoldsTheSameFigures) {
  RunFigures figures = Figures();
  figures.overlap_ratio = std::nan("");
  figures.evaluations = {Evaluated(1000, 0.9791, 0.07)};
  figures.epochs[0].expected_fingerprint = 0x1f;
  const nlohmann::json json = nlohmann::json::parse(SummaryToJson(figures, Context()));
  EXPECT_EQ(json.at("stop").at("rule"), "patience");
  EXPECT_EQ(json.at("best"), nlohmann::json({{"metric", "accuracy"}, {"value", 0.9791}, {"step", 1000}}));
  EXPECT_EQ(json.at("steps"), 2500);
  EXPECT_EQ(json.at("parts").size(), 7u);
  EXPECT_EQ(json.at("parts").at("forward").at("p95_s"), 0.0034);
  EXPECT_EQ(json.at("slowest").at("rank"), 1);
  EXPECT_EQ(json.at("evaluations").at(0).at("metrics").at("accuracy"), 0.9791);
  EXPECT_EQ(json.at("epochs").at(0).at("expected_fingerprint"), "000000000000001f");
  EXPECT_TRUE(json.at("overlap_ratio").is_null());
  EXPECT_TRUE(json.at("target").is_null());
  EXPECT_TRUE(json.at("time_to_target_s").is_null());
}

TEST(SummaryJsonTest, NothingKnownIsNull) {
  const nlohmann::json json = nlohmann::json::parse(SummaryToJson(RunFigures(), SummaryContext()));
  EXPECT_TRUE(json.at("stop").is_null());
  EXPECT_TRUE(json.at("best").is_null());
  EXPECT_TRUE(json.at("slowest").is_null());
  EXPECT_EQ(json.at("last_checkpoint"), -1);
}

}  // namespace
}  // namespace lockstep
