#include "worker/coordinator_client/grant_book.h"

#include <gtest/gtest.h>

#include <limits>

namespace lockstep {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

Grant NewGrant(int64_t first, int64_t through, int64_t final_step) {
  Grant grant;
  grant.set_first_step(first);
  grant.set_through_step(through);
  grant.set_final_step(final_step);
  return grant;
}

TEST(GrantBookTest, AsksOnceWhenHalfOfTheLatestGrantIsUsed) {
  GrantBook book;
  book.Add(NewGrant(1, 100, 1000));
  EXPECT_EQ(book.through(), 100);
  EXPECT_EQ(book.AskAt(), 50);
  EXPECT_EQ(book.Ask(), 100);
  EXPECT_EQ(book.AskAt(), kNever);
  book.Add(NewGrant(101, 200, 1000));
  EXPECT_EQ(book.AskAt(), 150);
}

TEST(GrantBookTest, AGrantOfOneStepIsAskedForBeforeItIsTaken) {
  GrantBook book;
  book.Add(NewGrant(7, 7, 1000));
  EXPECT_EQ(book.AskAt(), 7);
  book.Add(NewGrant(8, 9, 1000));
  EXPECT_EQ(book.AskAt(), 8);
}

TEST(GrantBookTest, AsksForNothingBeyondThePlan) {
  GrantBook book;
  book.Add(NewGrant(901, 1000, 1000));
  EXPECT_EQ(book.AskAt(), kNever);
  EXPECT_EQ(book.final_step(), 1000);
}

TEST(GrantBookTest, AGrantThatComesAgainTakesNothingBack) {
  GrantBook book;
  book.Add(NewGrant(1, 100, 1000));
  book.Add(NewGrant(101, 200, 1000));
  book.Add(NewGrant(1, 100, 1000));
  EXPECT_EQ(book.through(), 200);
  EXPECT_EQ(book.AskAt(), 150);
}

TEST(GrantBookTest, EventsAreDueAtTheirStepsUntilForgotten) {
  Grant grant = NewGrant(1, 100, 1000);
  grant.add_evaluate_at(40);
  grant.add_evaluate_at(80);
  grant.add_checkpoint_at(80);
  GrantBook book;
  book.Add(grant);
  EXPECT_TRUE(book.EvaluationDue(40));
  EXPECT_FALSE(book.CheckpointDue(40));
  EXPECT_TRUE(book.EvaluationDue(80));
  EXPECT_TRUE(book.CheckpointDue(80));
  EXPECT_FALSE(book.EvaluationDue(79));
  book.Forget(80);
  EXPECT_FALSE(book.EvaluationDue(40));
  EXPECT_TRUE(book.EvaluationDue(80)) << "what is due now is not of the past";
}

}  // namespace
}  // namespace lockstep
