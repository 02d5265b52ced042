#include "common/base/status.h"

#include <gtest/gtest.h>

#include <memory>

namespace lockstep {
namespace {

absl::StatusOr<std::unique_ptr<int>> Box(int value) {
  if (value < 0) return absl::OutOfRangeError("negative");
  return std::make_unique<int>(value);
}

absl::StatusOr<int> Sum(int a, int b) {
  ASSIGN_OR_RETURN(const std::unique_ptr<int> x, Box(a));
  ASSIGN_OR_RETURN(const std::unique_ptr<int> y, Box(b));
  return *x + *y;
}

absl::Status Check(int value, int* calls) {
  RETURN_IF_ERROR((++*calls, Box(value).status()));
  return absl::AlreadyExistsError("went on");
}

TEST(StatusTest, AssignOrReturnTakesTheValueOrReturnsTheError) {
  ASSERT_TRUE(Sum(2, 3).ok());
  EXPECT_EQ(*Sum(2, 3), 5);
  EXPECT_EQ(Sum(2, -3).status(), absl::OutOfRangeError("negative"));
}

TEST(StatusTest, ReturnIfErrorEvaluatesOnceAndGoesOnWhenOk) {
  int calls = 0;
  EXPECT_EQ(Check(1, &calls), absl::AlreadyExistsError("went on"));
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(Check(-1, &calls), absl::OutOfRangeError("negative"));
  EXPECT_EQ(calls, 2);
}

TEST(StatusTest, AnnotateKeepsTheCodeAndPutsThePlaceFirst) {
  EXPECT_EQ(Annotate(absl::NotFoundError("no such file"), "run.db"), absl::NotFoundError("run.db: no such file"));
  EXPECT_TRUE(Annotate(absl::OkStatus(), "run.db").ok());
}

TEST(StatusTest, AnnotateKeepsWhatElseAStatusCarries) {
  absl::Status status = absl::NotFoundError("no such file");
  status.SetPayload("tests/number", absl::Cord("7"));
  EXPECT_EQ(Annotate(status, "run.db").GetPayload("tests/number"), absl::Cord("7"));
}

}  // namespace
}  // namespace lockstep
