#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "common/config/config.h"
#include "common/config/schema.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr DataFacts kMnist{/*train_samples=*/6000, /*inputs=*/784, /*outputs=*/10};

RunConfig Defaults() {
  RunConfig config;
  SetDefaults(&config);
  config.mutable_data()->set_path("/data");
  return config;
}

std::string ErrorOf(RunConfig config, int workers, DataFacts facts = kMnist) {
  const std::string before = config.SerializeAsString();
  const absl::Status status = ResolveConfig(facts, workers, &config);
  EXPECT_EQ(before, config.SerializeAsString()) << "a config that cannot be resolved stays as it was";
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(ConfigResolveTest, FillsInWhatFollowsFromDataAndWorkers) {
  RunConfig config = Defaults();
  ASSERT_TRUE(ResolveConfig(kMnist, 4, &config).ok());
  EXPECT_EQ(config.workers(), 4);
  EXPECT_EQ(config.data().global_batch_size(), 256);
  EXPECT_EQ(config.model().inputs(), 784);
  EXPECT_EQ(config.model().outputs(), 10);
  EXPECT_THAT(config.model().hidden(), ElementsAre(1024, 1024));
  EXPECT_EQ(config.schedule().decay_epochs(), 0) << "a constant rate does not decay";
  EXPECT_THAT(config.metrics(), ElementsAre(METRIC_ACCURACY, METRIC_LOSS));
}

TEST(ConfigResolveTest, IsIdempotentAndKeepsTheGlobalBatchWithOtherWorkers) {
  RunConfig config = Defaults();
  config.mutable_schedule()->set_name(SCHEDULE_NAME_COSINE);
  ASSERT_TRUE(ResolveConfig(kMnist, 4, &config).ok());
  RunConfig again = config;
  ASSERT_TRUE(ResolveConfig(kMnist, 4, &again).ok());
  EXPECT_TRUE(MessageDifferencer::Equals(config, again));
  again.mutable_convergence()->set_max_epochs(77);
  ASSERT_TRUE(ResolveConfig(kMnist, 2, &again).ok());
  EXPECT_EQ(again.data().global_batch_size(), 256);
  EXPECT_EQ(again.schedule().decay_epochs(), 10) << "frozen when the run began";
}

TEST(ConfigResolveTest, EverySizeThatIsNotGivenFollowsFromTheModel) {
  RunConfig config = Defaults();
  config.mutable_model()->set_name(MODEL_NAME_WIDE);
  ASSERT_TRUE(ResolveConfig(kMnist, 1, &config).ok());
  EXPECT_THAT(config.model().hidden(), ElementsAre(4096, 4096));
  config = Defaults();
  config.mutable_model()->set_name(MODEL_NAME_CNN);
  ASSERT_TRUE(ResolveConfig(kMnist, 1, &config).ok());
  EXPECT_THAT(config.model().hidden(), IsEmpty());
  config = Defaults();
  config.mutable_model()->add_hidden(5);
  ASSERT_TRUE(ResolveConfig(kMnist, 1, &config).ok());
  EXPECT_THAT(config.model().hidden(), ElementsAre(5));
}

TEST(ConfigResolveTest, AnInjectedRankMustBeThere) {
  RunConfig config = Defaults();
  config.add_inject()->set_rank(2);
  EXPECT_EQ(ResolveConfig(kMnist, 2, &config),
            absl::InvalidArgumentError("inject[0].rank is 2, but the ranks go from 0 to 1; give one of them, or none: inject=[]"));
  EXPECT_EQ(ResolveConfig(kMnist, 3, &config), absl::OkStatus());
}

TEST(ConfigResolveTest, TheDecayLastsAsLongAsTheRunAndAStepAThirdOfIt) {
  RunConfig config = Defaults();
  config.mutable_convergence()->set_max_epochs(12);
  config.mutable_schedule()->set_name(SCHEDULE_NAME_STEP);
  ASSERT_TRUE(ResolveConfig(kMnist, 1, &config).ok());
  EXPECT_EQ(config.schedule().decay_epochs(), 4);
  config.mutable_schedule()->set_name(SCHEDULE_NAME_LINEAR);
  config.mutable_schedule()->set_decay_epochs(0);
  ASSERT_TRUE(ResolveConfig(kMnist, 1, &config).ok());
  EXPECT_EQ(config.schedule().decay_epochs(), 12);
}

TEST(ConfigResolveTest, SaysWhatDoesNotFitTheData) {
  RunConfig config = Defaults();
  EXPECT_EQ(ErrorOf(config, 0), "workers must be 1 or more, not 0");
  EXPECT_EQ(ErrorOf(config, 1, {}), "data.path holds no training samples; give data with at least one");
  config.mutable_data()->set_global_batch_size(3);
  EXPECT_EQ(ErrorOf(config, 4),
            "data.global_batch_size must be at least the number of workers, 4, not 3; start fewer workers");
  config = Defaults();
  config.mutable_data()->set_batch_size(16777216);
  EXPECT_EQ(
      ErrorOf(config, 100),
      "data.batch_size is 16777216, which over 100 workers is more than 1073741824 samples a step; give a smaller "
      "one");
  config = Defaults();
  config.mutable_model()->set_inputs(100);
  EXPECT_EQ(ErrorOf(config, 1), "model.inputs is 100, but a sample of the data has 784 values; leave it at 0");
  config = Defaults();
  config.mutable_model()->set_outputs(9);
  EXPECT_EQ(ErrorOf(config, 1), "model.outputs is 9, but the data have 10 classes; leave it at 0");
  config = Defaults();
  config.mutable_schedule()->set_name(SCHEDULE_NAME_COSINE);
  config.mutable_schedule()->set_warmup_steps(940);
  EXPECT_EQ(ErrorOf(config, 1),
            "schedule.warmup_steps is 940, which leaves nothing of the 940 steps over which the learning rate decays; "
            "give fewer");
  config.mutable_schedule()->set_warmup_steps(939);
  EXPECT_TRUE(ResolveConfig(kMnist, 1, &config).ok());
}

class ConfigResumeTest : public testing::Test {
 protected:
  ConfigResumeTest() {
    config_ = Defaults();
    EXPECT_TRUE(ResolveConfig(kMnist, 2, &config_).ok());
  }
  std::string ErrorOf(const std::vector<Override>& overrides) {
    const RunConfig before = config_;
    const absl::Status status = OverrideForResume(overrides, &config_);
    EXPECT_TRUE(MessageDifferencer::Equals(before, config_)) << "all or nothing";
    return std::string(status.message());
  }
  const TempFolder folder_;
  RunConfig config_;
};

TEST_F(ConfigResumeTest, WhatCannotChangeTheTrainingMayChange) {
  const std::string digest = ConfigDigest(config_);
  const absl::Status status = OverrideForResume({{"workers", "7"},
                                                 {"convergence.max_epochs", "50"},
                                                 {"convergence.target", "0.5"},
                                                 {"checkpoint.keep_last", "0"},
                                                 {"data.path", folder_.path()}},
                                                &config_);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(config_.workers(), 7);
  EXPECT_EQ(config_.convergence().max_epochs(), 50);
  EXPECT_EQ(config_.data().path(), folder_.path());
  EXPECT_EQ(ConfigDigest(config_), digest);
}

TEST_F(ConfigResumeTest, WhatChangesTheTrainingIsRefused) {
  EXPECT_EQ(ErrorOf({{"workers", "3"}, {"optimizer.lr", "1"}}),
            "--set optimizer.lr: cannot change on a resume, since it changes what is trained; leave it out, or start a "
            "new run");
  EXPECT_EQ(ErrorOf({{"data.batchsize", "1"}}),
            "--set data.batchsize: unknown field 'batchsize' in data; did you mean 'batch_size'?");
  EXPECT_EQ(ErrorOf({{"workers", "none"}}), "--set workers: must be a whole number, not 'none'");
  EXPECT_EQ(ErrorOf({{"workers", "1000"}}),
            "data.global_batch_size must be at least the number of workers, 1000, not 128; give a larger one or fewer "
            "workers");
  EXPECT_EQ(ErrorOf({{"convergence.metric", "perplexity"}}),
            "--set convergence.metric: must be one of the run's metrics, since what was best so far is known by them "
            "alone");
  EXPECT_EQ(ErrorOf({{"data.path", folder_ / "no"}}),
            "--set data.path: does not exist: '" + folder_ / "no" + "'; correct the path");
}

TEST_F(ConfigResumeTest, ARunsOwnConfigIsReadWhereItsDataAreNot) {
  const std::string file = folder_.Write("config.yaml", ConfigToYaml(config_));
  EXPECT_EQ(LoadConfig(file, {}).status().code(), absl::StatusCode::kNotFound);
  const auto config = ReadRunConfig(file);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(MessageDifferencer::Equals(*config, config_));
}

}  // namespace
}  // namespace lockstep
