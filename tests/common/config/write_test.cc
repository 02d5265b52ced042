#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/stable_random.h"
#include "common/config/config.h"
#include "common/config/schema.h"
#include "common/config/text.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// A number of any size within the field's bounds, one of them now and then.
std::string RandomNumber(const FieldDescriptor* field, StableRandom* random) {
  const Setting& setting = SettingOf(field);
  const bool whole = field->cpp_type() != FieldDescriptor::CPPTYPE_DOUBLE;
  const double low = setting.has_min() ? setting.min() : whole ? 0 : -1e300;
  const double high = setting.has_max() ? setting.max() : whole ? 1e9 : 1e300;
  if (random->Below(8) == 0) return FormatNumber(low);
  if (random->Below(8) == 0) return FormatNumber(high);
  const double exponent = random->Uniform() * 40 - 20;
  double value = std::exp(exponent) * (low < 0 && random->Below(2) == 0 ? -1 : 1);
  value = std::min(high, std::max(low, value));
  return whole ? absl::StrCat(std::min(static_cast<int64_t>(high), static_cast<int64_t>(std::ceil(value))))
               : FormatNumber(value);
}

std::string RandomText(StableRandom* random) {
  static const std::vector<std::string> letters = {"a", "Z", "'", "\"", "\\", ":", "#", " ",
                                                   "{", "]", "*", "é",  "→",  "~", "%"};
  std::string text = "x";
  for (uint64_t i = random->Below(12); i > 0; --i) text += letters[random->Below(letters.size())];
  return text;
}

std::string RandomValue(const FieldDescriptor* field, StableRandom* random) {
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return random->Below(2) == 0 ? "true" : "false";
    case FieldDescriptor::CPPTYPE_STRING:
      return SettingOf(field).must_exist() ? "/" + RandomText(random) : RandomText(random);
    case FieldDescriptor::CPPTYPE_ENUM: {
      const std::vector<std::string> words = EnumWords(field->enum_type(), false);
      return words[random->Below(words.size())];
    }
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(random->Next64());
    default:
      return RandomNumber(field, random);
  }
}

void Randomize(Message* message, StableRandom* random) {
  SetDefaults(message);
  const google::protobuf::Reflection* reflection = message->GetReflection();
  for (int i = 0; i < message->GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->field(i);
    if (SettingOf(field).planned()) continue;
    if (IsSection(field)) {
      Randomize(reflection->MutableMessage(message, field), random);
      continue;
    }
    const uint64_t times = field->is_repeated() ? random->Below(4) : random->Below(2);
    for (uint64_t k = 0; k < times; ++k) {
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        Randomize(reflection->AddMessage(message, field), random);
      } else {
        const absl::Status status = SetScalar(field, RandomValue(field, random), message);
        EXPECT_TRUE(status.ok()) << field->full_name() << ": " << status;
      }
    }
  }
}

// Takes from a random config what the rules over several fields forbid.
void KeepToTheRules(RunConfig* config) {
  config->mutable_data()->set_path("/data");
  config->mutable_data()->set_global_batch_size(0);
  config->mutable_data()->mutable_augment()->set_noise(0);
  Model* model = config->mutable_model();
  if (model->name() == MODEL_NAME_TORCHSCRIPT) model->set_torchscript("/m.pt");
  if (model->name() != MODEL_NAME_TORCHSCRIPT) model->clear_torchscript();
  config->mutable_loss()->set_name(LOSS_NAME_TORCHSCRIPT);
  config->mutable_loss()->set_torchscript("/l.pt");
  config->clear_metrics();
  for (const Metric metric : {METRIC_LOSS, METRIC_MAE, METRIC_TOP5, METRIC_ACCURACY, METRIC_PERPLEXITY}) {
    config->add_metrics(metric);
  }
  if (config->convergence().has_target()) config->mutable_convergence()->set_target(1.0 / 3);
  config->mutable_optimizer()->set_nesterov(false);
  config->mutable_schedule()->set_min_lr(0);
  for (auto& group : *config->mutable_optimizer()->mutable_groups()) {
    if (group.pattern().empty()) group.set_pattern("*");
    if (!group.has_weight_decay()) group.set_lr_scale(0.5);
  }
  // What nothing obeys stands at its default.
  if (model->name() != MODEL_NAME_MLP && model->name() != MODEL_NAME_WIDE) model->clear_hidden();
  if (model->init_from().empty()) model->set_init_match(INIT_MATCH_ALL);
  Optimizer* optimizer = config->mutable_optimizer();
  if (optimizer->name() == OPTIMIZER_NAME_SGD) {
    optimizer->set_beta1(0.9);
    optimizer->set_beta2(0.999);
    optimizer->set_eps(1e-8);
  } else {
    optimizer->set_momentum(0.9);
  }
  Schedule* schedule = config->mutable_schedule();
  if (schedule->name() != SCHEDULE_NAME_STEP) schedule->set_gamma(0.1);
  if (schedule->name() == SCHEDULE_NAME_CONSTANT) schedule->set_decay_epochs(0);
  Communication* communication = config->mutable_communication();
  if (communication->algorithm() != ALGORITHM_RING) communication->set_compression(COMPRESSION_NONE);
  if (communication->period() > 1 || communication->algorithm() == ALGORITHM_SHARED ||
      communication->compression() == COMPRESSION_TOPK || communication->compression() == COMPRESSION_POWERSGD) {
    communication->set_bucket_tuning(BUCKET_TUNING_OFF);
  }
  if (communication->period() > 1) {
    communication->set_compression(COMPRESSION_NONE);
  } else {
    communication->set_period_rule(PERIOD_RULE_FIXED);
    communication->set_average_momentum(false);
  }
  if (communication->period_rule() != PERIOD_RULE_POST_LOCAL) communication->set_post_local_steps(0);
  if (communication->compression() != COMPRESSION_TOPK) communication->set_topk_ratio(0.01);
  if (communication->compression() != COMPRESSION_POWERSGD) communication->set_powersgd_rank(4);
  for (auto& inject : *config->mutable_inject()) {
    inject.set_last_step(0);
    inject.set_factor(1);
  }
}

TEST(ConfigWriteTest, WhatIsWrittenReadsBackToTheSameBits) {
  const TempFolder folder;
  StableRandom random(Mix({7}));
  for (int i = 0; i < 300; ++i) {
    RunConfig config;
    Randomize(&config, &random);
    KeepToTheRules(&config);
    const std::string yaml = ConfigToYaml(config);
    const auto back = ReadRunConfig(folder.Write("c.yaml", yaml));
    ASSERT_TRUE(back.ok()) << back.status() << "\n" << yaml;
    ASSERT_EQ(back->SerializeAsString(), config.SerializeAsString()) << yaml;
    ASSERT_EQ(ConfigToYaml(*back), yaml);
    ASSERT_EQ(ConfigDigest(*back), ConfigDigest(config));
  }
}

TEST(ConfigWriteTest, NumbersAreTheShortestThatReadBackToTheSameBits) {
  EXPECT_EQ(FormatNumber(0.1), "0.1");
  EXPECT_EQ(FormatNumber(1e6), "1000000");
  EXPECT_EQ(FormatNumber(-0.0), "-0");
  EXPECT_EQ(FormatNumber(1.0 / 3), "0.3333333333333333");
  EXPECT_EQ(FormatNumber(1e300), "1e+300");
  EXPECT_EQ(FormatNumber(std::numeric_limits<double>::denorm_min()), "5e-324");
}

TEST(ConfigWriteTest, TextThatYamlWouldMistakeIsQuoted) {
  const TempFolder folder;
  for (const std::string name : {"null", "~", "1.0", "true", "a: b", "# x", "\"", "\\n", "'", "- a", "*a", "é→"}) {
    RunConfig config;
    SetDefaults(&config);
    config.mutable_data()->set_path("/x");
    config.mutable_run()->set_name(name);
    const auto back = ReadRunConfig(folder.Write("c.yaml", ConfigToYaml(config)));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->run().name(), name);
  }
}

std::string DigestOf(const std::string& path, const std::string& value) {
  const TempFolder folder;
  auto config = ParseConfig("data: {path: /}\n", "c.yaml", {{path, value}});
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? ConfigDigest(*config) : "";
}

TEST(ConfigDigestTest, DependsOnEveryFieldThatChangesWhatIsTrainedAndOnNoOther) {
  const std::string plain = DigestOf("threads", "1");
  EXPECT_EQ(plain.size(), 32);
  std::set<std::string> seen = {plain};
  StableRandom random(Mix({8}));
  VisitLeaves(RunConfig::descriptor(), [&](const std::string& path, const FieldDescriptor* field) {
    if (SettingOf(field).planned() || field->is_repeated() || path == "schema_version") return;
    RunConfig config = *ParseConfig("data: {path: /}\n", "c.yaml", {});
    Message* message = &config;
    for (const absl::string_view name : absl::StrSplit(path, '.')) {
      const FieldDescriptor* at = message->GetDescriptor()->FindFieldByName(std::string(name));
      if (IsSection(at)) message = message->GetReflection()->MutableMessage(message, at);
    }
    std::string value;
    for (int tries = 0; tries < 1000 && IsDefault(*message, field); ++tries) {
      value = RandomValue(field, &random);
      ASSERT_TRUE(SetScalar(field, value, message).ok()) << path;
    }
    if (IsDefault(*message, field)) return;  // one choice only
    const std::string digest = ConfigDigest(config);
    if (SettingOf(field).resumable()) {
      EXPECT_EQ(digest, plain) << path << "=" << value;
    } else {
      EXPECT_TRUE(seen.insert(digest).second) << path << "=" << value;
    }
  });
  for (const auto& [path, value] :
       std::vector<std::pair<std::string, std::string>>{{"model.hidden", "[5]"},
                                                        {"model.hidden", "[5, 5]"},
                                                        {"data.shape", "[5]"},
                                                        {"optimizer.groups", "[{pattern: a, lr_scale: 1}]"},
                                                        {"optimizer.groups", "[{pattern: a, weight_decay: 0}]"}}) {
    EXPECT_TRUE(seen.insert(DigestOf(path, value)).second) << path << "=" << value;
  }
}

TEST(ConfigDigestTest, OfAPathOnlyCountsWhetherThereIsOne) {
  EXPECT_EQ(DigestOf("model.init_from", "/tmp"), DigestOf("model.init_from", "/"));
  EXPECT_NE(DigestOf("model.init_from", "/tmp"), DigestOf("threads", "1"));
}

TEST(ConfigDigestTest, IsTheSameOnEveryMachineAndInEveryRelease) {
  EXPECT_EQ(DigestOf("threads", "1"), "8c0da9d6e5c754009f6dc8a22b469384");
  EXPECT_EQ(DigestOf("optimizer.lr", "0.1"), "8d01331c0e25435f8eae072f34dde458");
}

TEST(DescribeSettingsTest, ShowsEverySettingWithinAHundredColumns) {
  const std::string table = DescribeSettings();
  for (const absl::string_view line : absl::StrSplit(table, '\n')) {
    const auto columns = std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; });
    EXPECT_LE(columns, 100) << line;
  }
  for (const std::string& name : SettingNames()) {
    const size_t dot = name.find('.');
    EXPECT_NE(table.find("  " + name.substr(dot == std::string::npos ? 0 : dot + 1) + " "), std::string::npos) << name;
  }
  EXPECT_NE(table.find("batch_size          integer 64             samples per worker and step"), std::string::npos);
  EXPECT_NE(table.find("\noptimizer\n"), std::string::npos);
  EXPECT_NE(table.find("    - pattern"), std::string::npos);
}

TEST(SettingNamesTest, AreWhatAnOverrideTakes) {
  const std::vector<std::string> names = SettingNames();
  EXPECT_THAT(names, testing::IsSupersetOf({"run.name", "data.augment.flip", "inject", "workers", "optimizer.groups"}));
  EXPECT_THAT(names, testing::Not(testing::Contains("data")));
}

}  // namespace
}  // namespace lockstep
