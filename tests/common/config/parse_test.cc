#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "common/config/config.h"
#include "common/config/schema.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class ConfigParseTest : public testing::Test {
 protected:
  ConfigParseTest() { std::filesystem::create_directories(folder_ / "data"); }

  // `yaml` after a line that sets data.path.
  RunConfig Parse(const std::string& yaml, const std::vector<Override>& overrides = {}) {
    auto config = ParseConfig("data: {path: data}\n" + yaml, "c.yaml", overrides);
    EXPECT_TRUE(config.ok()) << config.status();
    return config.ok() ? *config : RunConfig();
  }

  const TempFolder folder_;
  const WorkingFolder working_{folder_.path()};
};

TEST_F(ConfigParseTest, WhatIsNotWrittenHasItsDefault) {
  const RunConfig config = Parse("");
  EXPECT_EQ(config.schema_version(), 1);
  EXPECT_EQ(config.run().name(), "run");
  EXPECT_EQ(config.run().seed(), 1);
  EXPECT_EQ(config.data().batch_size(), 64);
  EXPECT_EQ(config.data().global_batch_size(), 0);
  EXPECT_TRUE(config.data().shuffle());
  EXPECT_EQ(config.data().normalize().std(), 1);
  EXPECT_EQ(config.model().name(), MODEL_NAME_MLP);
  EXPECT_EQ(config.optimizer().eps(), 1e-8);
  EXPECT_EQ(config.communication().timeout(), 30);
  EXPECT_FALSE(config.convergence().has_target());
  EXPECT_THAT(config.metrics(), ElementsAre(METRIC_ACCURACY, METRIC_LOSS));
  EXPECT_THAT(config.inject(), IsEmpty());
}

TEST_F(ConfigParseTest, EveryDefaultKeepsToItsOwnRange) {
  RunConfig config;
  SetDefaults(&config);  // ends the process if one does not
  Inject inject;
  SetDefaults(&inject);
  EXPECT_EQ(inject.rank(), -1);
  EXPECT_EQ(inject.first_step(), 1);
}

TEST_F(ConfigParseTest, ReadsEveryType) {
  const RunConfig config = Parse(
      "run: {name: 123, seed: 18446744073709551615}\n"
      "model: {name: wide, hidden: [7, 8]}\n"
      "optimizer:\n"
      "  lr: 1e-3\n"
      "  nesterov: True\n"
      "  groups:\n"
      "    - {pattern: '*.bias', weight_decay: 0}\n"
      "    - {pattern: x, lr_scale: 0.5}\n"
      "convergence: {target: 0.97, max_steps: 9223372036854775807}\n"
      "metrics: [top5]\n"
      "device: auto\n"
      "inject:\n"
      "- part: comm_exposed\n"
      "  delay: 20ms\n");
  EXPECT_EQ(config.run().name(), "123");
  EXPECT_EQ(config.run().seed(), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(config.model().name(), MODEL_NAME_WIDE);
  EXPECT_THAT(config.model().hidden(), ElementsAre(7, 8));
  EXPECT_EQ(config.optimizer().lr(), 1e-3);
  EXPECT_TRUE(config.optimizer().nesterov());
  ASSERT_EQ(config.optimizer().groups_size(), 2);
  EXPECT_TRUE(config.optimizer().groups(0).has_weight_decay());
  EXPECT_FALSE(config.optimizer().groups(0).has_lr_scale());
  EXPECT_FALSE(config.optimizer().groups(1).has_weight_decay());
  EXPECT_EQ(config.optimizer().groups(1).lr_scale(), 0.5);
  EXPECT_EQ(config.convergence().target(), 0.97);
  EXPECT_EQ(config.convergence().max_steps(), std::numeric_limits<int64_t>::max());
  EXPECT_THAT(config.metrics(), ElementsAre(METRIC_TOP5, METRIC_ACCURACY, METRIC_LOSS));
  EXPECT_EQ(config.device(), DEVICE_AUTO);
  ASSERT_EQ(config.inject_size(), 1);
  EXPECT_EQ(config.inject(0).part(), STEP_PART_COMM_EXPOSED);
  EXPECT_EQ(config.inject(0).delay(), 0.02);
  EXPECT_EQ(config.inject(0).rank(), -1);
}

TEST_F(ConfigParseTest, TimesTakeUnits) {
  for (const auto& [text, seconds] : std::vector<std::pair<std::string, double>>{{"90", 90},
                                                                                 {"90s", 90},
                                                                                 {"1.5s", 1.5},
                                                                                 {"5m", 300},
                                                                                 {"5 m", 300},
                                                                                 {"2h", 7200},
                                                                                 {"1d", 86400},
                                                                                 {"0.5h", 1800},
                                                                                 {"250ms", 0.25}}) {
    EXPECT_EQ(Parse("convergence: {max_time: " + text + "}\n").convergence().max_time(), seconds) << text;
  }
}

TEST_F(ConfigParseTest, AnchorsAliasesEmptySectionsAndNullTargetsAreFine) {
  const RunConfig config = Parse(
      "optimizer: {lr: &rate 0.25}\n"
      "schedule: {name: cosine, min_lr: *rate}\n"
      "checkpoint:\n"
      "convergence: {target: ~}\n");
  EXPECT_EQ(config.schedule().min_lr(), 0.25);
  EXPECT_EQ(config.checkpoint().keep_last(), 3);
  EXPECT_FALSE(config.convergence().has_target());
}

TEST_F(ConfigParseTest, APlannedFieldMayBeWrittenAtItsDefault) {
  EXPECT_EQ(Parse("communication: {period: 1, topk_ratio: 1e-2, interfaces: []}\n").communication().period(), 1);
}

TEST_F(ConfigParseTest, OverridesWinAndTheLastOneWinsMost) {
  const RunConfig config = Parse("threads: 2\nmodel: {hidden: [1, 2, 3]}\nconvergence: {target: 0.5}\n",
                                 {{"threads", "3"},
                                  {"threads", "4"},
                                  {"model.hidden", "[9]"},
                                  {"run.name", "it's: #1"},
                                  {"convergence.target", "null"},
                                  {"inject", "[{part: forward, delay: 1, rank: 1}]"},
                                  {"metrics", "[perplexity]"}});
  EXPECT_EQ(config.threads(), 4);
  EXPECT_THAT(config.model().hidden(), ElementsAre(9));
  EXPECT_EQ(config.run().name(), "it's: #1");
  EXPECT_FALSE(config.convergence().has_target());
  EXPECT_EQ(config.inject(0).rank(), 1);
  EXPECT_THAT(config.metrics(), ElementsAre(METRIC_PERPLEXITY, METRIC_ACCURACY, METRIC_LOSS));
}

TEST_F(ConfigParseTest, AnOverriddenListForgetsWhatTheFileGaveItsItems) {
  const auto config = ParseConfig("data: {path: data}\ninject: [{part: forward, delay: 1}]\n", "c.yaml",
                                  {{"inject", "[{part: forward}]"}});
  EXPECT_EQ(config.status().message(), "--set inject: inject[0] has no 'delay'; add it: how long");
}

TEST_F(ConfigParseTest, QuotesInAnOverrideAreYaml) {
  EXPECT_EQ(Parse("", {{"run.name", "\"a b\""}}).run().name(), "a b");
}

TEST_F(ConfigParseTest, ATorchScriptFileSetsTheName) {
  folder_.Write("m.pt", "");
  RunConfig config = Parse("model: {torchscript: m.pt}\nloss: {torchscript: m.pt}\n");
  EXPECT_EQ(config.model().name(), MODEL_NAME_TORCHSCRIPT);
  EXPECT_EQ(config.loss().name(), LOSS_NAME_TORCHSCRIPT);
  EXPECT_EQ(config.convergence().metric(), METRIC_LOSS);
  EXPECT_THAT(config.metrics(), ElementsAre(METRIC_LOSS));
  config = Parse("", {{"model.torchscript", "m.pt"}});
  EXPECT_EQ(config.model().name(), MODEL_NAME_TORCHSCRIPT);
}

TEST_F(ConfigParseTest, MetricsFollowFromTheLoss) {
  const RunConfig mse = Parse("loss: {name: mse}\n");
  EXPECT_EQ(mse.convergence().metric(), METRIC_LOSS);
  EXPECT_THAT(mse.metrics(), ElementsAre(METRIC_LOSS, METRIC_MAE));
  const RunConfig bce = Parse("loss: {name: bce}\n");
  EXPECT_EQ(bce.convergence().metric(), METRIC_LOSS);
  EXPECT_THAT(bce.metrics(), ElementsAre(METRIC_LOSS, METRIC_ACCURACY));
  EXPECT_EQ(Parse("loss: {name: bce}\nconvergence: {metric: accuracy}\n").convergence().metric(), METRIC_ACCURACY);
  EXPECT_THAT(Parse("metrics: [loss]\nconvergence: {metric: perplexity}\n").metrics(),
              ElementsAre(METRIC_LOSS, METRIC_PERPLEXITY));
}

TEST_F(ConfigParseTest, PathsOfAFileStartFromItsFolderAndThenFromTheWorkingFolder) {
  folder_.Write("configs/beside/x", "");
  folder_.Write("here/x", "");
  folder_.Write("configs/both/x", "");
  folder_.Write("both/x", "");
  const auto path_of = [&](const std::string& written) {
    folder_.Write("configs/c.yaml", "data: {path: '" + written + "'}\n");
    const auto config = LoadConfig("configs/c.yaml", {});
    EXPECT_TRUE(config.ok()) << config.status();
    return config.ok() ? config->data().path() : "";
  };
  EXPECT_EQ(path_of("beside"), folder_ / "configs/beside");
  EXPECT_EQ(path_of("here"), folder_ / "here");
  EXPECT_EQ(path_of("both"), folder_ / "configs/both");
  EXPECT_EQ(path_of("./../here//./x"), folder_ / "here/x");
  EXPECT_EQ(path_of("here/"), folder_ / "here");
  EXPECT_EQ(path_of("here/[xyz]*"), folder_ / "here/[xyz]*");
  EXPECT_EQ(path_of(folder_ / "here"), folder_ / "here");
  folder_.Write("configs/c.yaml", "data: {path: nowhere}\n");
  EXPECT_EQ(LoadConfig("configs/c.yaml", {}).status(),
            absl::NotFoundError("configs/c.yaml:1: data.path does not exist: neither '" + folder_ / "configs/nowhere" +
                                "', beside the config, nor '" + folder_ / "nowhere" +
                                "', in the working folder; correct the path"));
}

TEST_F(ConfigParseTest, PathsOfAnOverrideStartFromTheWorkingFolder) {
  folder_.Write("configs/both/x", "");
  folder_.Write("both/x", "");
  folder_.Write("configs/c.yaml", "data: {path: nowhere}\n");
  const auto config = LoadConfig("configs/c.yaml", {{"data.path", "both"}});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->data().path(), folder_ / "both");
}

TEST_F(ConfigParseTest, EnumWordsAreLowerCaseWithoutThePrefix) {
  EXPECT_EQ(EnumWord(Metric_descriptor(), METRIC_ACCURACY), "accuracy");
  EXPECT_EQ(EnumWord(StepPart_descriptor(), STEP_PART_COMM_EXPOSED), "comm_exposed");
  EXPECT_EQ(EnumWord(InputType_descriptor(), INPUT_TYPE_AS_IS), "as_is");
  EXPECT_EQ(EnumWord(Metric_descriptor(), 77), "77");
}

}  // namespace
}  // namespace lockstep
