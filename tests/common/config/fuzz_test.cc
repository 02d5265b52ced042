#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/stable_random.h"
#include "common/config/config.h"
#include "common/config/schema.h"
#include "common/config/text.h"

namespace lockstep {
namespace {

// A config out of all that the format has.
std::string Seed() {
  RunConfig config;
  SetDefaults(&config);
  config.mutable_data()->set_path("/");
  config.mutable_model()->add_hidden(5);
  auto* group = config.mutable_optimizer()->add_groups();
  group->set_pattern("*.bias");
  group->set_weight_decay(0);
  auto* inject = config.add_inject();
  SetDefaults(inject);
  inject->set_delay(1);
  return ConfigToYaml(config) + "convergence_: &a {x: *a}\n? [k]\n: |\n  text\n";
}

std::string Mutate(std::string text, uint64_t most, StableRandom* random) {
  static const std::vector<std::string> pieces = {
      ":", "{",  "}", "[",      "]",     "\n",  " ", "-",    "&a",           "*a", "!",    "|", "\"",
      "'", "\t", "~", "<<: *a", "---\n", "...", "%", "\x80", "\xed\xa0\x80", "9",  "e999", "# "};
  for (uint64_t changes = 1 + random->Below(most); changes > 0 && !text.empty(); --changes) {
    const size_t at = random->Below(text.size());
    switch (random->Below(4)) {
      case 0:
        text[at] = static_cast<char>(random->Below(256));
        break;
      case 1:
        text.erase(at, 1 + random->Below(20));
        break;
      case 2:
        text.insert(at, pieces[random->Below(pieces.size())]);
        break;
      default:
        text.insert(at, text.substr(random->Below(text.size()), random->Below(60)));
        break;
    }
  }
  return text;
}

// Whatever comes in, a config comes out that reads back, or one line that says where.
TEST(ConfigFuzzTest, BrokenTextIsAnsweredWithOneLine) {
  const std::string seed = Seed();
  StableRandom random(Mix({20}));
  int accepted = 0;
  for (int i = 0; i < 4000; ++i) {
    // Half of them are nearly right, so that mutations get past the syntax.
    const std::string yaml =
        i % 2 == 0 ? Mutate(seed, 6, &random) : Mutate(seed.substr(0, seed.find("convergence_")), 1, &random);
    const auto config = ParseConfig(yaml, "c.yaml", {});
    if (config.ok()) {
      ++accepted;
      ASSERT_TRUE(CheckConfig(*config).ok()) << yaml;
      continue;
    }
    const std::string message(config.status().message());
    ASSERT_TRUE(absl::StartsWith(message, "c.yaml")) << message;
    ASSERT_EQ(message.find('\n'), std::string::npos) << message;
    ASSERT_TRUE(IsUtf8(message)) << message;
  }
  EXPECT_GT(accepted, 50);
  EXPECT_LT(accepted, 3000);
}

TEST(ConfigFuzzTest, BrokenOverridesAreAnsweredWithOneLine) {
  const std::vector<std::string> names = SettingNames();
  const std::vector<std::string> values = {"1",   "[1, 2]", "{a: 1}", "text", "[{part: forward, delay: 1}]",
                                           "1e5", "true",   "~"};
  StableRandom random(Mix({21}));
  for (int i = 0; i < 4000; ++i) {
    std::string path = names[random.Below(names.size())], value = values[random.Below(values.size())];
    if (random.Below(3) == 0) path = Mutate(path, 6, &random);
    if (random.Below(2) == 0) value = Mutate(value, 6, &random);
    const auto config = ParseConfig("data: {path: /}", "c.yaml", {{path, value}});
    if (config.ok()) continue;
    const std::string message(config.status().message());
    ASSERT_EQ(message.find('\n'), std::string::npos) << message;
    ASSERT_TRUE(IsUtf8(message)) << message;
  }
}

}  // namespace
}  // namespace lockstep
