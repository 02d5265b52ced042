// A journal that cannot be written: nothing is answered that is not in it, and nothing is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "coordinator/state/explain.h"
#include "tests/coordinator/service/service_testing.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

TEST(JournalTroubleTest, ACallIsAnsweredUnavailable) {
  CoreFixture run;
  run.StartTraining();
  run.journal_fails = true;
  EXPECT_EQ(run.core->RequestStop({}).status(),
            absl::UnavailableError("journal.db could not be written: No space left on device"));
  run.journal_fails = false;
  EXPECT_EQ(run.links[0].Count(CoordinatorMessage::kDirective), 0) << "what was refused is not done later";
  EXPECT_TRUE(run.core->RequestStop({}).ok());
  EXPECT_EQ(run.links[0].Count(CoordinatorMessage::kDirective), 1);
}

TEST(JournalTroubleTest, AnEvaluationWaitsForTheJournalAndIsJudgedThen) {
  CoreFixture run;
  run.StartTraining();
  run.AskForMore(0, 8);
  run.journal_fails = true;
  ASSERT_EQ(run.Evaluate(10, 0.5), absl::OkStatus());
  run.Pass(absl::Seconds(2));
  EXPECT_EQ(run.links[0].Count(CoordinatorMessage::kVerdict), 0);
  EXPECT_THAT(run.Notes(), HasSubstr("journal.db could not be written: No space left on device"));
  run.journal_fails = false;
  run.Pass(absl::Seconds(1));
  EXPECT_EQ(run.links[0].Count(CoordinatorMessage::kVerdict), 1);
  EXPECT_THAT(run.Notes(), HasSubstr("journal.db can be written again"));
  EXPECT_TRUE(UnexplainedDecisions(run.journal)->empty());
}

TEST(JournalTroubleTest, AJournalThatStaysBrokenFailsTheRun) {
  CoreFixture run;
  run.StartTraining();
  run.journal_fails = true;
  run.core->AskToStop("x", false);
  for (int second = 0; second < 61; ++second) {
    run.Beat(0, 1);
    run.Beat(1, 1);
    run.Pass(absl::Seconds(1));
  }
  ASSERT_TRUE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  EXPECT_EQ(run.core->ended().exit_code(), 1);
  EXPECT_EQ(run.core->ended().why(), "journal.db could not be written for 60 s: No space left on device");
  EXPECT_EQ(run.links[0].Last(CoordinatorMessage::kAbort).abort().reason(), run.core->ended().why());
}

TEST(JournalTroubleTest, AnEndThatCannotBeJournaledIsTriedAgainAndGivenUp) {
  CoreFixture run;
  run.StartTraining();
  run.core->AskToStop("x", false);
  run.Leave(0);
  run.journal_fails = true;
  run.Leave(1);
  run.Pass(absl::Seconds(30));
  EXPECT_FALSE(run.core->WaitUntilEnded(absl::ZeroDuration()));
  run.Pass(absl::Seconds(31));
  EXPECT_TRUE(run.core->WaitUntilEnded(absl::ZeroDuration()));
}

TEST(JournalTroubleTest, RowsWaitForARunDbThatCannotBeWritten) {
  CoreFixture run;
  run.StartTraining();
  {
    MutexLock lock(&run.rows.mutex);
    run.rows.error = absl::ResourceExhaustedError("No space left on device");
  }
  run.core->AskToStop("x", false);
  run.recorder->Flush();
  {
    MutexLock lock(&run.rows.mutex);
    EXPECT_TRUE(run.rows.updates.empty());
    run.rows.error = absl::OkStatus();
  }
  run.recorder->Flush();
  MutexLock lock(&run.rows.mutex);
  std::vector<int64_t> numbers;
  for (const Update& update : run.rows.updates) numbers.push_back(update.seq());
  EXPECT_TRUE(std::is_sorted(numbers.begin(), numbers.end()));
  EXPECT_EQ(std::adjacent_find(numbers.begin(), numbers.end()), numbers.end()) << "each once";
  EXPECT_TRUE(run.rows.updates.back().has_decision());
}

}  // namespace
}  // namespace lockstep
