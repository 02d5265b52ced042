#include "coordinator/supervise/host_watch.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <map>

namespace lockstep {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(5);
const absl::Time kBegin = absl::FromUnixSeconds(1000);

class HostWatchTest : public ::testing::Test {
 protected:
  HostWatchTest()
      : watch_({[this](const std::string& host) { return Question(host); }, kPatience}, [this] { return awaited_; }) {
    watch_.Start(kBegin);
  }
  ~HostWatchTest() override {
    watch_.Stop();
    ReapAll();
  }

  ChildOptions Question(const std::string& host) {
    ++questions_[host];
    ChildOptions child;
    child.argv = {"true"};
    if (host == "dead") child.argv = {"sleep", "300"};
    return child;
  }
  // Until `children` questions have ended.
  void Reap(int children) {
    while (children-- > 0) watch_.OnExit(waitpid(-1, nullptr, 0));
  }
  void ReapAll() {
    while (waitpid(-1, nullptr, 0) > 0) continue;
  }

  std::vector<std::string> awaited_;
  std::map<std::string, int> questions_;
  HostWatch watch_;
};

TEST_F(HostWatchTest, AHostThatAnswersIsAskedAgainForAsLongAsItIsAwaited) {
  awaited_ = {"slow"};
  absl::Time now = kBegin;
  EXPECT_EQ(watch_.Look(now), std::nullopt);
  EXPECT_EQ(questions_["slow"], 0);
  for (int round = 1; round <= 30; ++round) {
    now = watch_.due();
    EXPECT_EQ(now, kBegin + round * kPatience);
    EXPECT_EQ(watch_.Look(now), std::nullopt);
    EXPECT_EQ(questions_["slow"], round);
    Reap(1);
  }
  awaited_.clear();
  EXPECT_EQ(watch_.Look(watch_.due()), std::nullopt);
  EXPECT_EQ(watch_.due(), absl::InfiniteFuture());
}

TEST_F(HostWatchTest, AHostThatDoesNotAnswerIsLostOnceItsTimeIsUp) {
  awaited_ = {"slow", "dead"};
  EXPECT_EQ(watch_.Look(kBegin + kPatience), std::nullopt);
  Reap(1);
  EXPECT_EQ(watch_.due(), kBegin + 2 * kPatience);
  EXPECT_EQ(watch_.Look(kBegin + 2 * kPatience - absl::Milliseconds(1)), std::nullopt);
  EXPECT_EQ(watch_.Look(kBegin + 2 * kPatience), "dead");
  EXPECT_EQ(watch_.due(), absl::InfiniteFuture());
  int status = 0;
  EXPECT_GT(waitpid(-1, &status, 0), 0);
  EXPECT_EQ(DescribeExit(status), "was killed by SIGKILL");
}

TEST_F(HostWatchTest, AHostWhoseRanksHaveJoinedMeanwhileNeedsNoAnswer) {
  awaited_ = {"dead"};
  EXPECT_EQ(watch_.Look(kBegin + kPatience), std::nullopt);
  awaited_.clear();
  EXPECT_EQ(watch_.Look(kBegin + 2 * kPatience), std::nullopt);
  Reap(1);
  EXPECT_EQ(watch_.Look(watch_.due()), std::nullopt);
  EXPECT_EQ(watch_.due(), absl::InfiniteFuture());
}

TEST_F(HostWatchTest, TimeInWhichThisProcessWasStoppedIsNotHeldAgainstAHost) {
  awaited_ = {"dead"};
  EXPECT_EQ(watch_.Look(kBegin + kPatience), std::nullopt);
  const absl::Time back = kBegin + absl::Hours(1);
  EXPECT_EQ(watch_.Look(back), std::nullopt);
  EXPECT_EQ(watch_.Look(back + kPatience), "dead");
}

TEST_F(HostWatchTest, OfManyHostsSomeAreAskedAtOnce) {
  for (int i = 0; i < 40; ++i) awaited_.push_back(std::to_string(i));
  EXPECT_EQ(watch_.Look(kBegin + kPatience), std::nullopt);
  EXPECT_EQ(questions_.size(), 32u);
  Reap(8);
  EXPECT_EQ(watch_.Look(kBegin + kPatience), std::nullopt);
  EXPECT_EQ(questions_.size(), 40u);
  Reap(32);
}

}  // namespace
}  // namespace lockstep
