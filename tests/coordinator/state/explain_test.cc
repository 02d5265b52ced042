#include "coordinator/state/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/state/state_testing.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<Update> AWholeRun() {
  RunConfig config = SmallConfig();
  config.mutable_convergence()->set_patience(1);
  JournalDriver run(Started(config));
  run.Join(0);
  run.Join(1);
  run.GrantAll();
  run.Due(0);
  run.Commit(0);
  run.AskForCheckpoint();
  run.Due(4);
  run.Commit(4);
  run.Evaluate(Evaluated(10, 0.5));
  run.Commit(10);
  run.Evaluate(Evaluated(20, 0.4));
  run.Due(20);
  run.Commit(20);
  run.Leave(0, "done", false);
  run.Leave(1, "done", false);
  run.End();
  return run.updates;
}

Update* FindDecision(std::vector<Update>* updates, const std::string& rule) {
  for (Update& update : *updates) {
    if (update.has_decision() && update.decision().rule() == rule) return &update;
  }
  ADD_FAILURE() << "no decision by " << rule;
  return nullptr;
}

TEST(ExplainTest, AJournalExplainsItsDecisions) { EXPECT_THAT(*UnexplainedDecisions(AWholeRun()), IsEmpty()); }

TEST(ExplainTest, ATamperedReasonIsFound) {
  std::vector<Update> updates = AWholeRun();
  Update* const patience = FindDecision(&updates, "patience");
  patience->mutable_decision()->set_reason("it was late");
  EXPECT_THAT(*UnexplainedDecisions(updates),
              ElementsAre(HasSubstr("decides stop by patience at step 20 (it was late), where what is before it says "
                                    "stop by patience at step 20 (accuracy 0.5000 at step 10")));
}

TEST(ExplainTest, ATamperedFigureIsFound) {
  std::vector<Update> updates = AWholeRun();
  for (Update& update : updates) {
    if (update.has_evaluated() && update.evaluated().step() == 10) {
      (*update.mutable_evaluated()->mutable_metrics())["accuracy"] = 0.3;
    }
  }
  EXPECT_FALSE(UnexplainedDecisions(updates)->empty());
}

TEST(ExplainTest, ADecisionOutOfNothingIsFound) {
  JournalDriver run(Started(SmallConfig()));
  Update update;
  update.mutable_decision()->set_kind("stop");
  update.mutable_decision()->set_rule("target");
  ASSERT_EQ(run.Write(update), absl::OkStatus());
  EXPECT_THAT(*UnexplainedDecisions(run.updates), ElementsAre(HasSubstr("nothing before it says so")));
}

TEST(ExplainTest, ADecisionThatIsMissingIsFound) {
  JournalDriver run(Started(SmallConfig()));
  Update update;
  update.mutable_stop_requested()->set_by("lockstep stop");
  ASSERT_EQ(run.Write(update), absl::OkStatus());
  EXPECT_THAT(*UnexplainedDecisions(run.updates), IsEmpty()) << "cut off at the end of the journal";
  std::vector<Update> cut_off = run.updates;
  Update again;
  again.set_seq(3);
  *again.mutable_run_started() = Started(SmallConfig());
  again.mutable_run_started()->set_incarnation(2);
  cut_off.push_back(again);
  EXPECT_THAT(*UnexplainedDecisions(cut_off), IsEmpty()) << "cut off by a kill, then started anew";
  update.Clear();
  update.mutable_granted()->set_through_step(5);
  ASSERT_EQ(run.Write(update), absl::OkStatus());
  EXPECT_THAT(*UnexplainedDecisions(run.updates),
              ElementsAre(HasSubstr("update 3 stands where a decision is due: stop by request")));
}

TEST(ExplainTest, AJournalThatCannotBeReplayedIsAnError) {
  std::vector<Update> updates = AWholeRun();
  updates.erase(updates.begin() + 3);
  EXPECT_FALSE(UnexplainedDecisions(updates).ok());
}

}  // namespace
}  // namespace lockstep
