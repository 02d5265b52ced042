// Random lives of a run: whatever facts come, in whatever order, the journal replays to the same state and explains
// every decision.
#include <gtest/gtest.h>

#include "common/base/stable_random.h"
#include "coordinator/state/explain.h"
#include "tests/coordinator/state/state_testing.h"

namespace lockstep {
namespace {

// All that can be seen of a state.
std::string Describe(const RunState& state) {
  std::string text = absl::StrCat(state.last_seq(), " i", state.incarnation(), " g", state.granted_through(), " f",
                                  state.final_step(), " b", state.best_step(), ":", state.best_value(), " c",
                                  state.last_checkpoint(), " p", state.present(), " x", state.ExitCode(), " t",
                                  state.ElapsedAt(5000), state.checkpoint_on_its_way() ? " way" : "");
  for (const auto& [rank, worker] : state.workers()) absl::StrAppend(&text, " w", rank, worker.host, worker.left);
  for (const EvaluationResult& result : state.evaluations()) absl::StrAppend(&text, "\n", result.ShortDebugString());
  for (const Directive& directive : state.directives()) absl::StrAppend(&text, "\n", directive.ShortDebugString());
  for (const Decision& decision : state.Decide()) absl::StrAppend(&text, "\n?", decision.ShortDebugString());
  if (state.earlier_communication()) absl::StrAppend(&text, "\nc ", state.earlier_communication()->ShortDebugString());
  if (state.stop()) absl::StrAppend(&text, "\nstop ", state.stop()->ShortDebugString());
  if (state.ended()) absl::StrAppend(&text, "\nended ", state.ended()->ShortDebugString());
  for (int64_t step = 0; step <= 40; ++step) absl::StrAppend(&text, state.IsCheckpointDue(step) ? "D" : ".");
  return text;
}

Update RandomFact(const RunState& state, StableRandom* random) {
  Update update;
  const int rank = static_cast<int>(random->Below(3));
  const int64_t step = static_cast<int64_t>(random->Below(41));
  switch (random->Below(20)) {
    case 0:
    case 1:
      update.mutable_worker_joined()->set_rank(rank);
      update.mutable_worker_joined()->set_incarnation(state.incarnation());
      break;
    case 2:
      if (random->Below(8) != 0) break;
      update.mutable_worker_left()->set_rank(rank);
      update.mutable_worker_left()->set_incarnation(state.incarnation());
      update.mutable_worker_left()->set_lost(random->Below(2) == 0);
      break;
    case 3:
    case 4:
      update.mutable_granted()->set_through_step(state.NextGrantThrough(step));
      break;
    case 5:
      update.mutable_stop_requested()->set_by("x");
      update.mutable_stop_requested()->set_signal(random->Below(2) == 0);
      break;
    case 6:
      update.mutable_checkpoint_requested()->set_by("y");
      break;
    case 7:
      if (random->Below(8) != 0) break;
      update.mutable_failed()->set_step(step);
      update.mutable_failed()->set_non_finite(random->Below(2) == 0);
      break;
    case 8:
      update.mutable_time_reached()->set_seconds(step);
      break;
    case 9:
      update.mutable_problem()->set_what("z");
      break;
    case 10:
      if (state.stop()) update.mutable_run_ended()->set_exit_code(state.ExitCode());
      break;
    case 11: {
      *update.mutable_run_started() = Started(state.config());
      update.mutable_run_started()->set_incarnation(state.incarnation() + 1);
      *update.mutable_run_started()->mutable_from() = state.StateAt(CursorAt(step, random->Below(2) == 0));
      break;
    }
    case 12:
    case 13:
    case 14:
      update.mutable_checkpoint_due()->set_step(step);
      break;
    case 15:
    case 16:
      update.mutable_checkpoint_committed()->set_step(step);
      break;
    case 17:
      *update.mutable_communication_chosen() = Chosen(state.incarnation(), random->Below(4) == 0 ? 3 : state.world());
      break;
    default:
      *update.mutable_evaluated() = Evaluated(step, random->Below(5) / 5.0);
  }
  return update;
}

TEST(ReplayTest, RandomFactsReplayToTheSameStateAndAreExplained) {
  int decisions = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    StableRandom random(Mix({seed}));
    RunConfig config = SmallConfig();
    config.mutable_control()->set_grant_steps(1 + random.Below(40));
    config.mutable_evaluation()->set_every_steps(random.Below(6));
    config.mutable_checkpoint()->set_every_steps(random.Below(6));
    config.mutable_convergence()->set_patience(random.Below(4));
    JournalDriver run(Started(config));
    for (int i = 0; i < 200; ++i) {
      Update update = RandomFact(run.state, &random);
      update.set_seq(run.state.last_seq() + 1);
      const std::string before = Describe(run.state);
      if (run.state.Check(update).ok()) {
        run.now += 1;
        decisions += static_cast<int>(run.Fact(update).size());
      } else {
        EXPECT_FALSE(run.state.Apply(update).ok());
        EXPECT_EQ(Describe(run.state), before) << "a refused update changed the state";
      }
    }
    RunState replayed;
    for (const Update& update : run.updates) ASSERT_EQ(replayed.Apply(update), absl::OkStatus());
    EXPECT_EQ(Describe(replayed), Describe(run.state));
    const auto unexplained = UnexplainedDecisions(run.updates);
    ASSERT_EQ(unexplained.status(), absl::OkStatus());
    EXPECT_TRUE(unexplained->empty()) << unexplained->front();
  }
  EXPECT_GT(decisions, 1000) << "the facts were too dull to test anything";
}

}  // namespace
}  // namespace lockstep
