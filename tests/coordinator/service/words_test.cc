#include "coordinator/service/words.h"

#include <gtest/gtest.h>

#include "common/base/stable_random.h"
#include "lockstep/journal.pb.h"

namespace lockstep {
namespace {

TEST(WordsTest, ValidTextStaysAsItIs) {
  EXPECT_EQ(Words("rank 1: größer, 你好, 🙂"), "rank 1: größer, 你好, 🙂");
}

TEST(WordsTest, WhatIsNotUtf8BecomesQuestionMarks) {
  EXPECT_EQ(Words("a\xff"
                  "b"),
            "a?b");
  EXPECT_EQ(Words("\xc0\xaf"), "??") << "overlong";
  EXPECT_EQ(Words("\xed\xa0\x80"), "???") << "a surrogate";
  EXPECT_EQ(Words("x\xe4\xbd"), "x??") << "cut off";
}

TEST(WordsTest, LongTextIsCutBetweenCharacters) {
  const std::string words = Words(std::string(999, 'x') + "ä");
  EXPECT_EQ(words, std::string(999, 'x'));
}

TEST(WordsTest, AnyBytesCanBeReadBackFromAProtobuf) {
  StableRandom random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes;
    for (uint64_t left = random.Below(40); left > 0; --left) bytes += static_cast<char>(random.Next32() | 0x80);
    Update update, back;
    update.mutable_failed()->set_what(Words(bytes));
    ASSERT_TRUE(back.ParseFromString(update.SerializeAsString())) << i;
  }
}

}  // namespace
}  // namespace lockstep
