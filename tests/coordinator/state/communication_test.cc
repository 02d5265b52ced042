// The choice of communication: what is taken over the wire, and what a later launch gets back.
#include "coordinator/state/communication.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "tests/coordinator/state/state_testing.h"

namespace lockstep {
namespace {

Update Fact(const CommunicationChosen& chosen) {
  Update update;
  *update.mutable_communication_chosen() = chosen;
  return update;
}

TEST(CommunicationTest, ALaterLaunchInTheSameWorldGetsTheChoiceBack) {
  JournalDriver run(Started(SmallConfig()));
  run.GrantAll();
  EXPECT_EQ(run.state.earlier_communication(), nullptr);
  EXPECT_TRUE(run.Fact(Fact(Chosen(1))).empty()) << "nothing follows from it";
  EXPECT_EQ(run.state.earlier_communication(), nullptr) << "this launch has made it itself";
  run.Resume(run.state.StateAt(CursorAt(10, true)), SmallConfig());
  ASSERT_NE(run.state.earlier_communication(), nullptr);
  EXPECT_EQ(run.state.earlier_communication()->SerializeAsString(), Chosen(1).SerializeAsString());
  run.Resume(run.state.StateAt(CursorAt(10, true)), SmallConfig());
  EXPECT_NE(run.state.earlier_communication(), nullptr) << "a launch that ended before it had said anything is none";
}

TEST(CommunicationTest, AnotherWorldChoosesAnew) {
  JournalDriver run(Started(SmallConfig()));
  run.Fact(Fact(Chosen(1)));
  Update update;
  *update.mutable_run_started() = Started(SmallConfig(), 3);
  update.mutable_run_started()->set_incarnation(2);
  run.Fact(update);
  EXPECT_EQ(run.state.earlier_communication(), nullptr);
  EXPECT_EQ(run.Write(Fact(Chosen(2, 3))), absl::OkStatus());
}

TEST(CommunicationTest, ItIsToldOnceByTheLaunchItIsOf) {
  JournalDriver run(Started(SmallConfig()));
  EXPECT_TRUE(absl::IsFailedPrecondition(run.state.CheckCommunication(Chosen(2))));
  EXPECT_TRUE(absl::IsFailedPrecondition(run.state.CheckCommunication(Chosen(1, 3))));
  EXPECT_EQ(run.state.CheckCommunication(Chosen(1)), absl::OkStatus());
  run.Fact(Fact(Chosen(1)));
  EXPECT_TRUE(absl::IsAlreadyExists(run.state.CheckCommunication(Chosen(1))));
}

TEST(CommunicationTest, WhatIsNoChoiceIsRefused) {
  const std::function<void(CommunicationChosen*)> changes[] = {
      [](auto* c) { c->set_structure("telepathy"); },
      [](auto* c) { c->set_source("; drop table step"); },
      [](auto* c) { c->set_said(std::string(1001, 'x')); },
      [](auto* c) { *c->add_ways() = c->ways(0); },
      [](auto* c) { c->mutable_ways(0)->set_up_to_bytes(0); },
      [](auto* c) { c->mutable_ways(0)->clear_algorithm(); },
      [](auto* c) { c->mutable_measured(0)->set_seconds(-1); },
      [](auto* c) { c->mutable_measured(0)->set_seconds(std::numeric_limits<double>::quiet_NaN()); },
      [](auto* c) { c->mutable_measured(0)->set_bytes(0); },
      [](auto* c) { c->mutable_measured(0)->set_algorithm("\xff"); },
      [](auto* c) {
        for (int i = 0; i < 2000; ++i) *c->add_measured() = c->measured(0);
      },
      [](auto* c) { c->set_gradient_order(0, 3); },
      [](auto* c) { c->set_gradient_order(0, -1); },
  };
  EXPECT_EQ(CheckChoice(Chosen(1)), absl::OkStatus());
  int number = 0;
  for (const auto& change : changes) {
    CommunicationChosen chosen = Chosen(1);
    change(&chosen);
    EXPECT_TRUE(absl::IsInvalidArgument(CheckChoice(chosen))) << "change " << number;
    ++number;
  }
}

}  // namespace
}  // namespace lockstep
