#include "tests/worker/pure/compression_testing.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/stable_random.h"
#include "worker/comm/comm_thread.h"

namespace lockstep {
namespace {

constexpr absl::Duration kLong = absl::Seconds(60);

std::vector<float> ResidualOf(Compressor* compressor) {
  for (const RankState& state : compressor->states()) {
    if (state.name == "residual") return {state.values.begin(), state.values.end()};
  }
  return {};
}

}  // namespace

OneRank::OneRank(const CompressionOptions& options, int64_t elements, const std::vector<GradientMatrix>& matrices)
    : collectives_(group_.Rank(0)), compressor_(NewCompressor(options, elements, matrices)) {}

bool OneRank::Step(std::vector<float>* gradients) {
  auto operation = compressor_->AllReduce(collectives_.get(), absl::MakeSpan(*gradients), 0);
  if (!operation.ok()) return false;
  for (;;) {
    const absl::StatusOr<bool> done = (*operation)->Poll();
    if (!done.ok() || *done) return done.ok();
  }
}

std::vector<float> OneRank::residual() { return ResidualOf(compressor_.get()); }

std::vector<GradientMatrix> OddMatrices() { return {{3, 40, 50}, {2010, 7, 3}, {2040, 31, 64}, {4100, 1, 900}}; }

std::vector<Part> OddRanges() {
  // Around row 17 of the first matrix, and within row 20 of the third.
  return {{0, 860}, {860, 1160}, {2020, 1337}, {3357, 1640}, {4997, 3}};
}

float GradientOf(int rank, int64_t step, int64_t i) {
  StableRandom random(Mix({9, static_cast<uint64_t>(rank), static_cast<uint64_t>(step), static_cast<uint64_t>(i)}));
  return static_cast<float>(random.Uniform() - 0.4) * (i % 97 == 0 ? 10.0F : 1.0F);
}

Story TellStory(const CompressionOptions& options, int world, const std::vector<GradientMatrix>& matrices,
                int64_t steps) {
  Story story{world, steps, 0};
  story.applied.resize(world);
  story.applied_sums.assign(world, std::vector<double>(kOddElements));
  story.residuals.resize(world);
  ThreadGroup group(world);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < world; ++rank) {
    ranks.emplace_back([&, rank] {
      const std::unique_ptr<Collectives> collectives = group.Rank(rank);
      const std::unique_ptr<Compressor> compressor = NewCompressor(options, kOddElements, matrices);
      CommThread comm(collectives.get(), kLong);
      std::vector<float>& gradients = story.applied[rank];
      gradients.resize(kOddElements);
      for (int64_t step = 1; step <= steps; ++step) {
        for (int64_t i = 0; i < kOddElements; ++i) gradients[i] = GradientOf(rank, step, i);
        for (const Part& range : OddRanges()) {
          const absl::Span<float> part = absl::MakeSpan(gradients).subspan(range.first, range.count);
          comm.StartOperation(
              absl::StrCat("bucket.", range.first), range.count * 4,
              [&compressor, part, range](Collectives* over) { return compressor->AllReduce(over, part, range.first); });
        }
        StepTail tail;
        comm.StartTail(&tail);
        const absl::Status status = comm.Wait();
        ASSERT_TRUE(status.ok()) << status;
        int64_t wire_bytes = 0;
        for (const Span& span : comm.TakeSpans()) wire_bytes += span.name == "tail" ? 0 : span.wire_bytes;
        if (rank == 0) story.wire_bytes = wire_bytes;
        for (int64_t i = 0; i < kOddElements; ++i) story.applied_sums[rank][i] += gradients[i];
      }
      story.residuals[rank] = ResidualOf(compressor.get());
    });
  }
  for (std::thread& rank : ranks) rank.join();
  return story;
}

void ExpectRanksAgree(const Story& story) {
  for (const std::vector<float>& applied : story.applied) {
    EXPECT_EQ(std::memcmp(applied.data(), story.applied[0].data(), kOddElements * sizeof(float)), 0);
  }
  for (const std::vector<double>& sums : story.applied_sums) EXPECT_TRUE(sums == story.applied_sums[0]);
}

void ExpectNothingLost(const Story& story, double tolerance) {
  for (int64_t i = 0; i < kOddElements; ++i) {
    double gradients = 0, kept = story.applied_sums[0][i];
    for (int rank = 0; rank < story.world; ++rank) {
      for (int64_t step = 1; step <= story.steps; ++step) gradients += GradientOf(rank, step, i);
      if (!story.residuals[rank].empty()) kept += story.residuals[rank][i];
    }
    ASSERT_NEAR(kept, gradients, tolerance) << "element " << i << " of " << story.world << " ranks";
  }
}

}  // namespace lockstep
