// Several hundred whole steps of four ranks that are threads, so that asan and tsan see the communication thread, the
// buckets, and the reduction and update in the window, as a run has them.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/stable_random.h"
#include "tests/support/thread_collectives.h"
#include "worker/train/gradient_exchange.h"
#include "worker/train/replica_check.h"
#include "worker/train/span_optimizer.h"

namespace lockstep {
namespace {

constexpr int kWorld = 4, kSteps = 400;
constexpr absl::Duration kLong = absl::Seconds(60);

Optimizer Momentum() {
  Optimizer config;
  config.set_momentum(0.9);
  return config;
}

// Sizes that are no multiples of anything; three buckets.
ParameterLayout Layout() {
  return ParameterLayout({{"a.weight", {37, 31}}, {"a.bias", {37}}, {"b.weight", {5, 37}}, {"b.bias", {5}}},
                         Momentum());
}

// One rank of a training of nothing in particular: a gradient is a noisy part of the parameters, so that what one step
// gets wrong all later ones do too.
class Rank {
 public:
  Rank(int rank, const ParameterLayout& layout, GradientExchange* exchange, float* parameters, absl::Span<float> states)
      : rank_(rank),
        layout_(layout),
        exchange_(exchange),
        parameters_(parameters),
        optimizer_(CreateOptimizer(Momentum(), &layout, states)) {}

  void Step(int64_t step) {
    exchange_->BeginStep(step);
    // Backward: buckets fill one after the other.
    const std::vector<BucketRange> buckets = layout_.Buckets(0.002);
    ASSERT_GT(buckets.size(), 1u);
    for (size_t bucket = 0; bucket < buckets.size(); ++bucket) {
      FillGradients(step, buckets[bucket]);
      exchange_->StartBucket(static_cast<int>(bucket), buckets[bucket]);
    }
    StepTail tail;
    tail.samples = 1;
    tail.control = step + rank_;
    exchange_->StartTail(&tail);
    const absl::Status met = exchange_->Wait();
    ASSERT_TRUE(met.ok()) << met;
    ASSERT_EQ(tail.samples, kWorld);
    ASSERT_EQ(tail.control, step);
    double scale = 1;
    if (step % 3 == 0) scale = 1 / (1 + *exchange_->SquaredNorm());
    optimizer_->BeginStep(step, 0.01, scale);
    const auto parallel = [](int64_t begin, int64_t end, const std::function<void(int64_t, int64_t)>& body) {
      body(begin, end);
    };
    ASSERT_TRUE(exchange_
                    ->Update(parallel, [&](const float* gradients, int64_t first,
                                           int64_t count) { optimizer_->Apply(parameters_, gradients, first, count); })
                    .ok());
    exchange_->TakeSpans(&spans_);
  }

 private:
  void FillGradients(int64_t step, const BucketRange& range) {
    for (int64_t i = range.first; i < range.first + range.count; ++i) {
      const auto noise = static_cast<float>(
          Mix({static_cast<uint64_t>(rank_), static_cast<uint64_t>(step), static_cast<uint64_t>(i)}) % 1000);
      exchange_->gradients()[i] = 0.25f * parameters_[i] + 0.001f * noise - 0.5f;
    }
  }

  const int rank_;
  const ParameterLayout& layout_;
  GradientExchange* const exchange_;
  float* const parameters_;
  const std::unique_ptr<SpanOptimizer> optimizer_;
  std::vector<Span> spans_;
};

void OnThreads(const std::function<void(int rank)>& body) {
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kWorld; ++rank) ranks.emplace_back(body, rank);
  for (std::thread& rank : ranks) rank.join();
}

void CheckEqual(absl::Span<const float> values, int rank, int replica, int64_t step, CommThread* comm) {
  ReplicaDigest own;
  own.replica = replica;
  const absl::Span<const std::byte> bytes(reinterpret_cast<const std::byte*>(values.data()),
                                          values.size() * sizeof(float));
  if (rank == replica) own.parameters = HashReplica({bytes});
  const absl::Status same = CheckReplicas(own, step, kWorld, comm);
  ASSERT_TRUE(same.ok()) << same;
}

// Each with parameters of its own. Rank 0's after the last step.
std::vector<float> TrainReplicated(const ParameterLayout& layout) {
  ThreadGroup group(kWorld);
  std::vector<std::vector<float>> parameters(kWorld, std::vector<float>(layout.elements()));
  OnThreads([&](int rank) {
    const std::unique_ptr<Collectives> collectives = group.Rank(rank);
    CommThread comm(collectives.get(), kLong);
    const auto exchange = NewReplicatedExchange(&layout, &comm);
    Rank own(rank, layout, exchange.get(), parameters[rank].data(), {});
    for (int64_t step = 1; step <= kSteps; ++step) {
      own.Step(step);
      if (step % 50 == 0) CheckEqual(parameters[rank], rank, rank, step, &comm);
    }
  });
  for (int rank = 1; rank < kWorld; ++rank) EXPECT_EQ(parameters[rank], parameters[0]) << "rank " << rank;
  return parameters[0];
}

// All with the same parameters, in a window.
std::vector<float> TrainShared(const ParameterLayout& layout) {
  ThreadGroup group(kWorld);
  WindowOptions options;
  options.ranks = {0, 1, 2, 3};
  options.rank_bytes = layout.elements() * static_cast<int64_t>(sizeof(float));
  options.shared_bytes = 2 * options.rank_bytes;
  options.timeout = kLong;
  auto windows = HostWindow::OpenForThreads(options);
  EXPECT_TRUE(windows.ok()) << windows.status();
  float* const parameters = reinterpret_cast<float*>((*windows)[0]->shared().data());
  const absl::Span<float> states(parameters + layout.elements(), layout.elements());
  OnThreads([&](int rank) {
    const std::unique_ptr<Collectives> collectives = group.Rank(rank);
    CommThread comm(collectives.get(), kLong);
    const auto exchange = NewWindowExchange(&layout, (*windows)[rank].get(), &comm);
    Rank own(rank, layout, exchange.get(), parameters, states);
    for (int64_t step = 1; step <= kSteps; ++step) {
      own.Step(step);
      if (step % 50 == 0) CheckEqual({parameters, static_cast<size_t>(layout.elements())}, rank, 0, step, &comm);
    }
  });
  return std::vector<float>(parameters, parameters + layout.elements());
}

TEST(FourRanksTest, ReplicasOfTheirOwnAndOneSharedReplicaComeToTheSameBitsAfterHundredsOfSteps) {
  const ParameterLayout layout = Layout();
  const std::vector<float> replicated = TrainReplicated(layout);
  EXPECT_EQ(TrainShared(layout), replicated);
  EXPECT_NE(replicated, std::vector<float>(layout.elements())) << "nothing was trained";
}

}  // namespace
}  // namespace lockstep
