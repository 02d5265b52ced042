#include "worker/train/together.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "tests/support/thread_collectives.h"

namespace lockstep {
namespace {

// Counts what is started.
class Counting : public Collectives {
 public:
  Counting(std::unique_ptr<Collectives> inner, std::atomic<int>* count) : inner_(std::move(inner)), count_(count) {}
  int rank() const override { return inner_->rank(); }
  int world() const override { return inner_->world(); }
  std::string algorithm() const override { return inner_->algorithm(); }
  absl::StatusOr<std::unique_ptr<Operation>> AllReduce(absl::Span<std::byte> data, DType dtype, ReduceOp op,
                                                       Wire wire) override {
    return inner_->AllReduce(data, dtype, op, wire);
  }
  absl::StatusOr<std::unique_ptr<Operation>> AllReduceTail(StepTail* tail) override {
    return inner_->AllReduceTail(tail);
  }
  absl::StatusOr<std::unique_ptr<Operation>> Broadcast(absl::Span<std::byte> data, int root) override {
    ++*count_;
    return inner_->Broadcast(data, root);
  }
  absl::StatusOr<std::unique_ptr<Operation>> AllGather(absl::Span<const std::byte> own,
                                                       absl::Span<std::byte> all) override {
    return inner_->AllGather(own, all);
  }
  absl::StatusOr<std::unique_ptr<Operation>> Transfer(absl::Span<std::byte> data, int from, int to) override {
    return inner_->Transfer(data, from, to);
  }
  absl::StatusOr<std::unique_ptr<Operation>> Barrier() override { return inner_->Barrier(); }

 private:
  const std::unique_ptr<Collectives> inner_;
  std::atomic<int>* const count_;
};

// What DoOnRank0 returns on each of three ranks; `work` gets the number of broadcasts that rank 0 has started.
std::vector<absl::Status> OnThreeRanks(const std::function<absl::Status(std::atomic<int>*)>& work) {
  ThreadGroup group(3);
  std::vector<absl::Status> statuses(3);
  std::atomic<int> beats{0}, unused{0};
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 3; ++rank) {
    ranks.emplace_back([&, rank] {
      Counting collectives(group.Rank(rank), rank == 0 ? &beats : &unused);
      CommThread comm(&collectives, absl::Seconds(20));
      statuses[rank] = DoOnRank0(rank, &comm, absl::Milliseconds(1), [&] { return work(&beats); });
    });
  }
  for (std::thread& rank : ranks) rank.join();
  return statuses;
}

TEST(DoOnRank0Test, TheOthersHearFromRank0WhileItWorks) {
  const std::vector<absl::Status> statuses = OnThreeRanks([](std::atomic<int>* beats) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (*beats < 5 && absl::Now() < deadline) std::this_thread::yield();
    return *beats < 5 ? absl::DeadlineExceededError("no beat") : absl::OkStatus();
  });
  for (const absl::Status& status : statuses) EXPECT_TRUE(status.ok()) << status;
}

TEST(DoOnRank0Test, AFailureIsRank0sToTellAndEndsTheOthersToo) {
  const std::vector<absl::Status> statuses =
      OnThreeRanks([](std::atomic<int>*) { return absl::DataLossError("a damaged checkpoint"); });
  EXPECT_EQ(statuses[0], absl::DataLossError("a damaged checkpoint"));
  EXPECT_EQ(statuses[1].code(), absl::StatusCode::kAborted);
  EXPECT_EQ(statuses[2].code(), absl::StatusCode::kAborted);
}

TEST(DoOnRank0Test, AloneItIsTheWorkItself) {
  EXPECT_EQ(DoOnRank0(0, nullptr, absl::Seconds(1), [] { return absl::DataLossError("damaged"); }),
            absl::DataLossError("damaged"));
}

}  // namespace
}  // namespace lockstep
