#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/clock.h"
#include "tests/support/mpi_main.h"
#include "worker/comm/comm_thread.h"
#include "worker/comm/named_ranks.h"

namespace lockstep {
namespace {

absl::Span<std::byte> Bytes(std::vector<float>& values) {
  return absl::MakeSpan(reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(float));
}

TEST(CommThreadTest, StepsOfSeveralBucketsAndATailRunOnMpi) {
  absl::StatusOr<std::unique_ptr<Collectives>> collectives = TestSession().NewCollectives();
  ASSERT_TRUE(collectives.ok()) << collectives.status();
  const int rank = (*collectives)->rank(), world = (*collectives)->world();
  CommThread thread(collectives->get(), absl::Seconds(60));
  std::vector<std::vector<float>> buckets = {std::vector<float>(300000), std::vector<float>(70001),
                                             std::vector<float>(10)};
  std::vector<Span> spans;
  for (int step = 1; step <= 30; ++step) {
    StepTail tail;
    tail.samples = 1;
    tail.control = step + rank;
    for (size_t k = 0; k < buckets.size(); ++k) {
      std::fill(buckets[k].begin(), buckets[k].end(), static_cast<float>(step * (rank + 1)));
      thread.StartAllReduce(absl::StrCat("bucket.", k), Bytes(buckets[k]), DType::kF32, ReduceOp::kSum);
    }
    thread.StartTail(&tail);
    const absl::Status status = thread.Wait();
    ASSERT_TRUE(status.ok()) << status;
    const float sum = static_cast<float>(step * world * (world + 1) / 2);
    for (const std::vector<float>& bucket : buckets) {
      for (const float value : bucket) ASSERT_EQ(value, sum);
    }
    EXPECT_EQ(tail.samples, world);
    EXPECT_EQ(tail.control, step);
    EXPECT_EQ(tail.number, step * 4);
    thread.TakeSpans(&spans);
    ASSERT_EQ(spans.size(), 4u);
  }
  EXPECT_EQ(spans[0].name, "bucket.0");
  EXPECT_EQ(spans[0].bytes, 1200000);
  EXPECT_EQ(spans[0].wire_bytes, 2 * 1200000 * int64_t{world - 1} / world);
}

// The thread drives an all-reduce to its end while the trainer does not call it at all.
TEST(CommThreadTest, CommunicationGoesForwardWhileTheTrainerComputes) {
  MpiOptions options;
  options.ways = RingWays();
  absl::StatusOr<std::unique_ptr<Collectives>> collectives = TestSession().NewCollectives(options);
  ASSERT_TRUE(collectives.ok()) << collectives.status();
  CommThread thread(collectives->get(), absl::Seconds(60));
  std::vector<float> data(4000000, 1.0f);
  thread.StartBarrier("start");
  ASSERT_TRUE(thread.Wait().ok());
  thread.TakeSpans();
  thread.StartAllReduce("bucket.0", Bytes(data), DType::kF32, ReduceOp::kSum);
  const int64_t until_ns = MonotonicNanos() + 30'000'000'000;
  std::vector<Span> spans;
  while (spans.empty() && MonotonicNanos() < until_ns) thread.TakeSpans(&spans);
  ASSERT_EQ(spans.size(), 1u);
  ASSERT_TRUE(thread.Wait().ok());
  EXPECT_EQ(data[3999999], static_cast<float>((*collectives)->world()));
}

// Two groups, of the even ranks and of the odd ones, of which rank 3 is late.
TEST(CommThreadTest, AGroupOfSomeRanksNamesThemAsTheJobDoes) {
  const int rank = TestSession().rank();
  if (TestSession().world() != 4) return;
  MpiOptions options;
  options.part = MpiPart{rank % 2, rank};
  static auto* const collectives = TestSession().NewCollectives(options)->release();
  static auto* const data = new std::vector<float>(1000, 1.0f);
  CommThread thread(collectives, absl::Seconds(1));
  if (rank == 3) return absl::SleepFor(absl::Seconds(2.5));  // it is the late one: there, and past the others' deadline
  thread.StartAllReduce("bucket.0", Bytes(*data), DType::kF32, ReduceOp::kSum);
  const absl::Status status = thread.Wait();
  if (rank != 1) {
    EXPECT_TRUE(status.ok()) << status;
    return;
  }
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("rank 3 is there but has not begun anything"));
  EXPECT_EQ(NamedRanks(status), std::vector<int>{3});
}

TEST(CommThreadTest, RanksThatNameTheirOperationsDifferentlyAreToldSo) {
  if (TestSession().world() == 1) return;
  // After the error the all-reduce may be under way still: what it uses is never freed.
  static auto* const collectives = TestSession().NewCollectives()->release();
  static auto* const data = new std::vector<float>(1000, 1.0f);
  CommThread thread(collectives, absl::Seconds(60));
  thread.StartAllReduce(TestSession().rank() == 1 ? "bucket.1" : "bucket.0", Bytes(*data), DType::kF32, ReduceOp::kSum);
  StepTail tail;
  thread.StartTail(&tail);
  const absl::Status status = thread.Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("ranks 0 and 1 do not run the same collectives"), std::string::npos) << status;
}

// The last rank hands over another size of the same operation. What the library itself makes of that is anything from
// a hang to other ranks' data in the wrong place.
void StartWithUnequalSizes(bool ring, size_t size) {
  const int rank = TestSession().rank(), world = TestSession().world();
  if (world == 1) return;
  MpiOptions options;
  if (ring) options.ways = RingWays();
  // Used by what is under way still, so never freed.
  auto* const collectives = TestSession().NewCollectives(options)->release();
  auto* const data = new std::vector<float>(rank == world - 1 ? size - size / 3 : size, 1.0f);
  auto* const tail = new StepTail;
  CommThread thread(collectives, absl::Seconds(4));
  thread.StartAllReduce("bucket.0", Bytes(*data), DType::kF32, ReduceOp::kSum);
  thread.StartTail(tail);
  const absl::Status status = thread.Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_NE(status.message().find("do not run the same collectives"), std::string::npos) << status;
  EXPECT_NE(status.message().find(absl::StrCat(" and ", world - 1)), std::string::npos) << status;
}

TEST(CommThreadTest, RanksThatDifferInSizeAreBothNamedByTheLibrarysSmallAllReduce) {
  StartWithUnequalSizes(false, 300);
}
TEST(CommThreadTest, RanksThatDifferInSizeAreBothNamedByTheLibrarysMiddlingAllReduce) {
  StartWithUnequalSizes(false, 100'000);
}
TEST(CommThreadTest, RanksThatDifferInSizeAreBothNamedByTheLibrarysLargeAllReduce) {
  StartWithUnequalSizes(false, 2'000'000);
}
TEST(CommThreadTest, RanksThatDifferInSizeAreBothNamedByOneRound) { StartWithUnequalSizes(true, 300); }
TEST(CommThreadTest, RanksThatDifferInSizeAreBothNamedDirectly) { StartWithUnequalSizes(true, 100'000); }
TEST(CommThreadTest, RanksThatDifferInSizeAreBothNamedByARing) { StartWithUnequalSizes(true, 2'000'000); }

}  // namespace
}  // namespace lockstep
