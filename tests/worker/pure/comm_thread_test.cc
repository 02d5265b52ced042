#include "worker/comm/comm_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "tests/support/thread_collectives.h"
#include "worker/comm/local_collectives.h"
#include "worker/comm/named_ranks.h"

namespace lockstep {
namespace {

constexpr absl::Duration kLong = absl::Seconds(60);

absl::Span<std::byte> Bytes(std::vector<float>& values) {
  return absl::MakeSpan(reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(float));
}

// Runs `body` as every rank, each with a communication thread of its own.
void AsRanks(int world, absl::Duration timeout, const std::function<void(int rank, CommThread&)>& body) {
  ThreadGroup group(world);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < world; ++rank) {
    ranks.emplace_back([&, rank] {
      std::unique_ptr<Collectives> collectives = group.Rank(rank);
      CommThread thread(collectives.get(), timeout);
      body(rank, thread);
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

TEST(CommThreadTest, SumsOfManyStepsAreRightOnEveryRank) {
  AsRanks(4, kLong, [](int rank, CommThread& thread) {
    std::vector<float> first(1000), second(7);
    for (int step = 1; step <= 200; ++step) {
      std::fill(first.begin(), first.end(), static_cast<float>(rank + step));
      std::fill(second.begin(), second.end(), static_cast<float>(rank));
      StepTail tail;
      tail.samples = 3;
      thread.StartAllReduce("bucket.0", Bytes(first), DType::kF32, ReduceOp::kSum);
      thread.StartAllReduce("bucket.1", Bytes(second), DType::kF32, ReduceOp::kMax);
      thread.StartTail(&tail);
      const absl::Status status = thread.Wait();
      ASSERT_TRUE(status.ok()) << status;
      ASSERT_EQ(first[999], static_cast<float>(4 * step + 6));
      ASSERT_EQ(second[6], 3.0f);
      ASSERT_EQ(tail.samples, 12);
      ASSERT_EQ(tail.number, 3 * step);
    }
  });
}

TEST(CommThreadTest, BroadcastAndBarrierRunInTheOrderHandedOver) {
  AsRanks(3, kLong, [](int rank, CommThread& thread) {
    std::vector<float> data(100, static_cast<float>(rank));
    thread.StartBroadcast("initial weights", Bytes(data), 2);
    thread.StartBarrier("start");
    ASSERT_TRUE(thread.Wait().ok());
    EXPECT_EQ(data[0], 2.0f);
  });
}

TEST(CommThreadTest, SpansTellWhatWasDoneWhen) {
  std::unique_ptr<Collectives> collectives = NewLocalCollectives();
  CommThread thread(collectives.get(), kLong);
  std::vector<float> data(10);
  const int64_t before_ns = MonotonicNanos();
  thread.StartAllReduce("bucket.0", Bytes(data), DType::kF32, ReduceOp::kSum);
  StepTail tail;
  thread.StartTail(&tail);
  ASSERT_TRUE(thread.Wait().ok());
  const int64_t after_ns = MonotonicNanos();
  const std::vector<Span> spans = thread.TakeSpans();
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0].name, "bucket.0");
  EXPECT_EQ(spans[0].bytes, 40);
  EXPECT_EQ(spans[0].seq, 0);
  EXPECT_EQ(spans[1].name, "tail");
  EXPECT_EQ(spans[1].seq, 1);
  for (const Span& span : spans) {
    EXPECT_LE(before_ns, span.start_ns);
    EXPECT_LE(span.start_ns, span.begin_ns);
    EXPECT_LE(span.begin_ns, span.end_ns);
    EXPECT_LE(span.end_ns, after_ns);
  }
  EXPECT_TRUE(thread.TakeSpans().empty());
}

TEST(CommThreadTest, SpansThatNobodyTakesStopAtABound) {
  std::unique_ptr<Collectives> collectives = NewLocalCollectives();
  CommThread thread(collectives.get(), kLong);
  for (size_t i = 0; i < CommThread::kMostSpans + 100; ++i) thread.StartBarrier("many");
  ASSERT_TRUE(thread.Wait().ok());
  EXPECT_EQ(thread.TakeSpans().size(), CommThread::kMostSpans);
}

TEST(CommThreadTest, ARankThatDoesNotComeIsADeadlineThatIsFinal) {
  // Not freed: the operations are under way for ever.
  static auto* const group = new ThreadGroup(2);
  static auto* const data = new std::vector<float>(10);
  std::unique_ptr<Collectives> collectives = group->Rank(0);
  CommThread thread(collectives.get(), absl::Milliseconds(200));
  thread.StartBarrier("start");
  thread.StartAllReduce("bucket.3", Bytes(*data), DType::kF32, ReduceOp::kSum);
  const absl::Status status = thread.Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()),
              testing::MatchesRegex("barrier 'start' \\(number 0\\) has waited [0-9.]+m?s: rank 1 does not answer"));
  thread.StartBarrier("after the error");
  EXPECT_EQ(thread.Wait(), status);
}

TEST(CommThreadTest, ADeadlineComesWhileTheTrainerIsNotWaitingToo) {
  static auto* const group = new ThreadGroup(2);
  std::unique_ptr<Collectives> collectives = group->Rank(1);
  CommThread thread(collectives.get(), absl::Milliseconds(100));
  for (int i = 0; i < CommThread::kQueueItems + 1; ++i) thread.StartBarrier("more than the ring holds");
  EXPECT_EQ(thread.Wait().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(CommThreadTest, RanksWithOtherOperationsAreToldWhichOnesTheyAre) {
  AsRanks(3, kLong, [](int rank, CommThread& thread) {
    std::vector<float> data(10);
    thread.StartAllReduce(rank == 2 ? "weights" : "bucket.0", Bytes(data), DType::kF32, ReduceOp::kSum);
    StepTail tail;
    thread.StartTail(&tail);
    const absl::Status status = thread.Wait();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(status.message(),
              "ranks 0 and 2 do not run the same collectives: the tail of rank 0 is operation 2, that of rank 2 is "
              "operation 2, with other names or sizes before it; check that both have the same build, config and "
              "model");
    EXPECT_EQ(NamedRanks(status), std::vector<int>({0, 2}));
  });
}

TEST(CommThreadTest, ARankThatIsThereButLateIsToldFromOneThatDoesNotAnswer) {
  static auto* const group = new ThreadGroup(4);
  std::atomic<int> failed{0};
  std::vector<std::thread> ranks;
  // Rank 2 is never there. Rank 3's trainer computes until the others have given up.
  for (const int rank : {0, 1, 3}) {
    ranks.emplace_back([&failed, rank] {
      std::unique_ptr<Collectives> collectives = group->Rank(rank);
      CommThread thread(collectives.get(), absl::Seconds(rank == 3 ? 60 : 2));
      thread.StartBarrier("start");
      if (rank == 3) {
        while (failed < 2) std::this_thread::yield();
        return;
      }
      thread.StartBarrier("more");
      const absl::Status status = thread.Wait();
      EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
      EXPECT_THAT(
          std::string(status.message()),
          testing::MatchesRegex("barrier 'start' \\(number 0\\) has waited [0-9.]+m?s: rank 2 does not answer"));
      EXPECT_EQ(NamedRanks(status), std::vector<int>({2}));
      ++failed;
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

TEST(CommThreadTest, ARankThatComputesForLongIsNamedWithTheOperationThatItDidLast) {
  static auto* const group = new ThreadGroup(3);
  std::atomic<int> failed{0};
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 3; ++rank) {
    ranks.emplace_back([&failed, rank] {
      std::unique_ptr<Collectives> collectives = group->Rank(rank);
      CommThread thread(collectives.get(), absl::Seconds(2));
      thread.StartBarrier("start");
      EXPECT_TRUE(thread.Wait().ok());
      if (rank == 1) {
        while (failed < 2) std::this_thread::yield();
        return;
      }
      thread.StartBarrier("more");
      const absl::Status status = thread.Wait();
      EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
      EXPECT_THAT(std::string(status.message()),
                  testing::MatchesRegex("barrier 'more' \\(number 1\\) has waited [0-9.]+m?s: "
                                        "rank 1 is there but has come only to barrier 'start' \\(number 0\\)"));
      EXPECT_EQ(NamedRanks(status), std::vector<int>({1}));
      ++failed;
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

TEST(CommThreadTest, RanksThatWaitForDifferentThingsFindOutBeforeTheDeadline) {
  static auto* const group = new ThreadGroup(3);
  static std::vector<float> data[3] = {std::vector<float>(10), std::vector<float>(12), std::vector<float>(10)};
  std::atomic<int> told{0};
  std::vector<std::thread> ranks;
  // Rank 2 never comes, so that nothing but the roll call can tell.
  for (int rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&told, rank] {
      std::unique_ptr<Collectives> collectives = group->Rank(rank);
      CommThread thread(collectives.get(), absl::Seconds(4));
      thread.StartAllReduce("bucket.7", Bytes(data[rank]), DType::kF32, ReduceOp::kSum);
      const absl::Status status = thread.Wait();
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
      EXPECT_EQ(
          status.message(),
          "ranks 0 and 1 do not run the same collectives: number 0 is all-reduce 'bucket.7' of 40 bytes on rank 0 "
          "and all-reduce 'bucket.7' of 48 bytes on rank 1; check that both have the same build, config and "
          "model");
      EXPECT_EQ(NamedRanks(status), std::vector<int>({0, 1}));
      ++told;
      while (told < 2) std::this_thread::yield();
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

TEST(CommThreadTest, AnErrorOfTheCollectivesNamesTheOperation) {
  static auto* const group = new ThreadGroup(2);
  std::atomic<int> told{0};
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&told, rank] {
      static std::vector<float> data[2] = {std::vector<float>(10), std::vector<float>(20)};
      std::unique_ptr<Collectives> collectives = group->Rank(rank);
      CommThread thread(collectives.get(), kLong);
      thread.StartAllReduce("bucket.0", Bytes(data[rank]), DType::kF32, ReduceOp::kSum);
      const absl::Status status = thread.Wait();
      EXPECT_THAT(std::string(status.message()),
                  testing::HasSubstr("number 0 is all-reduce 'bucket.0' of 40 bytes on rank 0 and "
                                     "all-reduce 'bucket.0' of 80 bytes on rank 1"));
      ++told;
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(told, 2);
}

// Done once it is let go.
class HeldOperation : public Operation {
 public:
  HeldOperation(std::atomic<int>* begun, const std::atomic<bool>* let_go) : let_go_(let_go) { ++*begun; }
  absl::StatusOr<bool> Poll() override { return let_go_->load(); }
  int64_t wire_bytes() const override { return 17; }

 private:
  const std::atomic<bool>* const let_go_;
};

TEST(CommThreadTest, ATailIsDoneWhileWhatWasHandedOverBeforeItIsUnderWay) {
  std::unique_ptr<Collectives> collectives = NewLocalCollectives();
  std::atomic<int> begun{0};
  std::atomic<bool> let_go{false};
  CommThread thread(collectives.get(), kLong);
  std::vector<int64_t> held;
  for (int k = 0; k < 5; ++k) {
    held.push_back(thread.StartOperation("held", 8, [&](Collectives*) -> absl::StatusOr<std::unique_ptr<Operation>> {
      return std::make_unique<HeldOperation>(&begun, &let_go);
    }));
  }
  StepTail tail;
  const int64_t number = thread.StartTail(&tail);
  ASSERT_TRUE(thread.Wait(number).ok());
  EXPECT_EQ(begun, CommThread::kMostUnderWay);
  EXPECT_EQ(tail.number, 6);
  let_go = true;
  ASSERT_TRUE(thread.Wait(held[3]).ok());
  EXPECT_GE(begun, 4);
  ASSERT_TRUE(thread.Wait().ok());
  EXPECT_EQ(begun, 5);
  const std::vector<Span> spans = thread.TakeSpans();
  ASSERT_EQ(spans.size(), 6u);
  for (int k = 0; k < 5; ++k) EXPECT_EQ(spans[k].wire_bytes, 17);
  EXPECT_EQ(spans[5].name, "tail");
  EXPECT_LE(spans[5].end_ns, spans[0].end_ns);
  EXPECT_GE(spans[2].begin_ns, std::min(spans[0].end_ns, spans[1].end_ns)) << "a third while two were under way";
}

TEST(CommThreadTest, LeavingInTheMiddleOfAnOperationDoesNotHang) {
  static auto* const group = new ThreadGroup(2);
  static auto* const data = new std::vector<float>(10);
  std::unique_ptr<Collectives> collectives = group->Rank(0);
  CommThread thread(collectives.get(), kLong);
  thread.StartAllReduce("bucket.0", Bytes(*data), DType::kF32, ReduceOp::kSum);
}

}  // namespace
}  // namespace lockstep
