#include "worker/comm/reduce.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "worker/comm/collectives.h"

namespace lockstep {
namespace {

template <typename T>
std::vector<T> Reduced(std::vector<T> into, std::vector<T> from, DType dtype, ReduceOp op) {
  Reduce(reinterpret_cast<std::byte*>(into.data()), reinterpret_cast<const std::byte*>(from.data()),
         static_cast<int64_t>(into.size()), dtype, op);
  return into;
}

TEST(ReduceTest, EveryTypeUnderEveryOperation) {
  EXPECT_EQ(Reduced<float>({1, -2, 3}, {4, 5, -6}, DType::kF32, ReduceOp::kSum), (std::vector<float>{5, 3, -3}));
  EXPECT_EQ(Reduced<double>({1, -2}, {4, -5}, DType::kF64, ReduceOp::kMin), (std::vector<double>{1, -5}));
  EXPECT_EQ(Reduced<int64_t>({-1, 7}, {2, -9}, DType::kI64, ReduceOp::kMin), (std::vector<int64_t>{-1, -9}));
  EXPECT_EQ(Reduced<int64_t>({-1, 7}, {2, -9}, DType::kI64, ReduceOp::kMax), (std::vector<int64_t>{2, 7}));
  EXPECT_EQ(Reduced<uint64_t>({1, ~uint64_t{0}}, {2, 1}, DType::kU64, ReduceOp::kMax),
            (std::vector<uint64_t>{2, ~uint64_t{0}}));
  EXPECT_EQ(Reduced<uint8_t>({1, 9}, {2, 3}, DType::kU8, ReduceOp::kMax), (std::vector<uint8_t>{2, 9}));
}

TEST(ReduceTest, IntegerSumsWrapAround) {
  const int64_t most = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(Reduced<int64_t>({most}, {1}, DType::kI64, ReduceOp::kSum)[0], std::numeric_limits<int64_t>::min());
  EXPECT_EQ(Reduced<uint64_t>({~uint64_t{0}}, {3}, DType::kU64, ReduceOp::kSum)[0], 2u);
  EXPECT_EQ(Reduced<uint8_t>({250}, {10}, DType::kU8, ReduceOp::kSum)[0], 4);
}

TEST(ReduceTest, NotANumberWinsFromEitherSide) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax}) {
    EXPECT_TRUE(std::isnan(Reduced<float>({nan}, {1}, DType::kF32, op)[0]));
    EXPECT_TRUE(std::isnan(Reduced<float>({1}, {nan}, DType::kF32, op)[0]));
  }
}

StepTail TailOf(int rank) {
  StepTail tail;
  tail.loss_sum = rank + 0.5;
  tail.samples = 10;
  tail.fingerprint = ~uint64_t{0};
  tail.control = 9 - rank;
  tail.first_arrival = tail.last_arrival = 100 + rank % 2;
  tail.last_rank = rank;
  tail.rank = rank;
  tail.number = 40;
  tail.digest = 7;
  return tail;
}

TEST(MergeTailTest, SumsMinimaAndWhoCameLast) {
  StepTail tail = TailOf(0);
  for (const int rank : {1, 2, 3}) {
    StepTail from = TailOf(rank);
    from.non_finite_rank = rank >= 2 ? rank : -1;
    from.stop_signal = rank == 2 ? 15 : 0;
    MergeTail(from, &tail);
  }
  EXPECT_EQ(tail.loss_sum, 8.0);
  EXPECT_EQ(tail.samples, 40);
  EXPECT_EQ(tail.fingerprint, ~uint64_t{0} * 4);
  EXPECT_EQ(tail.control, 6);
  EXPECT_EQ(tail.non_finite_rank, 2);
  EXPECT_EQ(tail.first_arrival, 100);
  EXPECT_EQ(tail.last_arrival, 101);
  EXPECT_EQ(tail.last_rank, 1) << "the first of those that came last";
  EXPECT_EQ(tail.stop_signal, 15);
  EXPECT_EQ(tail.mismatch_rank, -1);
}

TEST(MergeTailTest, NamesTheFirstRankThatDoesSomethingElse) {
  StepTail tail = TailOf(0);
  for (const int rank : {1, 2, 3}) {
    StepTail from = TailOf(rank);
    if (rank == 2) from.number = 41;
    if (rank == 3) from.digest = 8;
    MergeTail(from, &tail);
  }
  EXPECT_EQ(tail.mismatch_rank, 2);
  EXPECT_EQ(tail.mismatch_number, 41);
}

}  // namespace
}  // namespace lockstep
