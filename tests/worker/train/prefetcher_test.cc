#include "worker/train/prefetcher.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "tests/worker/train/fakes.h"

namespace lockstep {
namespace {

constexpr int64_t kSamples = 50, kValues = 12, kBatch = 16;

// Counts the samples that were read, and holds readers up while it is shut.
class WatchedData : public Dataset {
 public:
  int64_t size() const override { return data_->size(); }
  const ArraySpec& input() const override { return data_->input(); }
  const ArraySpec& target() const override { return data_->target(); }
  RawSample Get(int64_t id) const override {
    MutexLock lock(&mutex_);
    while (shut_) changed_.Wait(&mutex_);
    ++read_;
    changed_.NotifyAll();
    return data_->Get(id);
  }
  void SetShut(bool shut) {
    MutexLock lock(&mutex_);
    shut_ = shut;
    changed_.NotifyAll();
  }
  // Waits until `count` samples have been read; false: 20 s have passed.
  bool WaitForRead(int64_t count) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    MutexLock lock(&mutex_);
    while (read_ < count && absl::Now() < deadline) changed_.WaitFor(&mutex_, deadline - absl::Now());
    return read_ >= count;
  }
  int64_t read() const {
    MutexLock lock(&mutex_);
    return read_;
  }

 private:
  const std::unique_ptr<Dataset> data_ = MakeToyData(kSamples, kValues, 4);
  mutable Mutex mutex_;
  mutable CondVar changed_;
  mutable int64_t read_ ABSL_GUARDED_BY(mutex_) = 0;
  bool shut_ ABSL_GUARDED_BY(mutex_) = false;
};

class PrefetcherTest : public testing::Test {
 protected:
  std::unique_ptr<Prefetcher> Make(int depth, int rank = 0, int world = 1, int64_t first_step = 1) {
    Prefetcher::Options options;
    options.data = &data_;
    options.decoder = &decoder_;
    options.plan = &plan_;
    options.rank = rank;
    options.world = world;
    options.depth = depth;
    options.first_step = first_step;
    return *Prefetcher::Create(options);
  }

  WatchedData data_;
  const Decoder decoder_{ToyConfig(kBatch).data(), data_.input(), data_.target(), 3};
  const MinibatchPlan plan_{kSamples, kBatch, 3, true};
};

TEST_F(PrefetcherTest, BatchesComeInOrderWithThePlansSamplesOverAnEpochsEnd) {
  for (int rank = 0; rank < 3; ++rank) {
    const auto prefetcher = Make(/*depth=*/2, rank, /*world=*/3, /*first_step=*/3);
    prefetcher->AllowThrough(9);
    for (int64_t step = 3; step <= 9; ++step) {
      const Batch& batch = **prefetcher->Next(absl::Seconds(20));
      const std::vector<int64_t> ids = plan_.Slice(step, rank, 3);
      ASSERT_EQ(batch.step, step);
      ASSERT_EQ(batch.samples, static_cast<int64_t>(ids.size()));
      ASSERT_EQ(batch.input.sizes(), torch::IntArrayRef({batch.samples, kValues}));
      uint64_t fingerprint = 0;
      for (size_t i = 0; i < ids.size(); ++i) {
        fingerprint += SampleFingerprint(plan_.EpochOf(step), ids[i]);
        std::vector<float> input(kValues);
        decoder_.DecodeInput(data_.Get(ids[i]), ids[i], plan_.EpochOf(step), true, input.data());
        EXPECT_TRUE(batch.input[i].equal(torch::tensor(input)));
        EXPECT_EQ(batch.target[i].item<int64_t>(), ids[i] % 4);
      }
      EXPECT_EQ(batch.fingerprint, fingerprint);
    }
  }
}

TEST_F(PrefetcherTest, NothingIsReadBeyondWhatIsAllowed) {
  const auto prefetcher = Make(/*depth=*/8);
  prefetcher->AllowThrough(2);
  ASSERT_TRUE(data_.WaitForRead(2 * kBatch));
  ASSERT_TRUE(prefetcher->Next(absl::Seconds(20)).ok());
  ASSERT_TRUE(prefetcher->Next(absl::Seconds(20)).ok());
  EXPECT_EQ(prefetcher->Next(absl::Milliseconds(20)).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(data_.read(), 2 * kBatch);
}

TEST_F(PrefetcherTest, ItReadsNoMoreThanDepthAhead) {
  const auto prefetcher = Make(/*depth=*/1);
  prefetcher->AllowThrough(100);
  ASSERT_TRUE(prefetcher->Next(absl::Seconds(20)).ok());
  ASSERT_TRUE(data_.WaitForRead(2 * kBatch));
  data_.SetShut(true);  // whoever reads a third batch now stands still, and has counted nothing
  EXPECT_EQ(data_.read(), 2 * kBatch);
  data_.SetShut(false);
  ASSERT_TRUE(prefetcher->Next(absl::Seconds(20)).ok());
  EXPECT_TRUE(data_.WaitForRead(3 * kBatch));
}

TEST_F(PrefetcherTest, TheBatchInHandStaysAsItIsWhileTheNextAreRead) {
  const auto prefetcher = Make(/*depth=*/2);
  prefetcher->AllowThrough(100);
  const Batch& batch = **prefetcher->Next(absl::Seconds(20));
  const torch::Tensor before = batch.input.clone();
  ASSERT_TRUE(data_.WaitForRead(3 * kBatch));
  EXPECT_TRUE(batch.input.equal(before));
}

TEST_F(PrefetcherTest, ABatchThatDoesNotComeIsADeadlineThatNamesTheStep) {
  data_.SetShut(true);
  const auto prefetcher = Make(/*depth=*/1);
  prefetcher->AllowThrough(5);
  const absl::Status late = prefetcher->Next(absl::Milliseconds(20)).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_NE(late.message().find("step 1"), std::string::npos) << late;
  data_.SetShut(false);
}

}  // namespace
}  // namespace lockstep
