#include "coordinator/supervise/lifeline.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace lockstep {
namespace {

TEST(LifelineTest, EveryMessageComesBackAsItWasSent) {
  for (const LifelineMessage& message :
       {LifelineMessage{"ready", 0, "127.0.0.1:4711"}, LifelineMessage{"ended", 3, "stopped by SIGINT"},
        LifelineMessage{"refused", 2, "config.yaml:3: bad"}, LifelineMessage{"stop", 0, "SIGINT to lockstep run"},
        LifelineMessage{"abort", 0, "why not"}, LifelineMessage{"done", 0, ""}}) {
    std::string line = FormatLifelineMessage(message);
    ASSERT_EQ(line.back(), '\n');
    line.pop_back();
    const std::optional<LifelineMessage> parsed = ParseLifelineMessage(line);
    ASSERT_TRUE(parsed.has_value()) << line;
    EXPECT_EQ(parsed->word, message.word);
    EXPECT_EQ(parsed->code, message.code);
    EXPECT_EQ(parsed->text, message.text);
  }
}

TEST(LifelineTest, ALineBreakInAReasonDoesNotMakeTwoMessages) {
  EXPECT_EQ(FormatLifelineMessage({"abort", 0, "one\ndone"}), "abort one done\n");
}

TEST(LifelineTest, WhatIsNoMessageIsDropped) {
  EXPECT_FALSE(ParseLifelineMessage("").has_value());
  EXPECT_FALSE(ParseLifelineMessage("hello world").has_value());
  EXPECT_FALSE(ParseLifelineMessage("ended soon").has_value());
}

TEST(LifelineTest, ReadsMessagesThatArriveInPiecesAndSeesTheEnd) {
  absl::StatusOr<Pipe> pipe = MakePipe();
  ASSERT_TRUE(pipe.ok());
  LifelineReader reader(std::move(pipe->read));
  EXPECT_TRUE(reader.Read().empty());
  ASSERT_EQ(write(pipe->write.get(), "stop by ha", 10), 10);
  EXPECT_TRUE(reader.Read().empty());
  ASSERT_EQ(write(pipe->write.get(), "nd\ndone \n", 9), 9);
  const std::vector<LifelineMessage> messages = reader.Read();
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].text, "by hand");
  EXPECT_EQ(messages[1].word, "done");
  EXPECT_FALSE(reader.closed());
  pipe->write.Reset();
  EXPECT_TRUE(reader.Read().empty());
  EXPECT_TRUE(reader.closed());
}

}  // namespace
}  // namespace lockstep
