#include "worker/comm/host_collectives.h"

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/clock.h"
#include "common/base/stable_random.h"
#include "gtest/gtest.h"
#include "tests/support/thread_collectives.h"

namespace lockstep {
namespace {

constexpr int64_t kElements = 100'003;  // of a rank's part of the window; no multiple of anything

// Threads stand in for ranks. The parameter: ranks of each host.
class HostCollectivesTest : public ::testing::TestWithParam<std::vector<int>> {
 protected:
  struct Rank {
    int rank, host, index;
    HostWindow* window;
    HostCollectives* collectives;
    float* data() const { return reinterpret_cast<float*>(window->of(index).data()); }
    absl::Span<float> all() const { return absl::MakeSpan(data(), kElements); }
    absl::Span<std::byte> bytes(int64_t first, int64_t count) const {
      return absl::MakeSpan(reinterpret_cast<std::byte*>(data() + first), count * sizeof(float));
    }
  };

  HostCollectivesTest() {
    for (size_t host = 0, rank = 0; host < GetParam().size(); ++host) {
      ranks_of_.emplace_back();
      for (int index = 0; index < GetParam()[host]; ++index) ranks_of_[host].push_back(static_cast<int>(rank++));
      slices_ = std::min(slices_, GetParam()[host]);
    }
  }

  int hosts() const { return static_cast<int>(ranks_of_.size()); }

  void OnRanks(const std::function<void(const Rank&)>& body) {
    const int world = ranks_of_.back().back() + 1;
    ThreadGroup all(world);
    std::vector<std::unique_ptr<ThreadGroup>> peers;
    for (int slice = 0; slice < slices_; ++slice) peers.push_back(std::make_unique<ThreadGroup>(hosts()));
    std::vector<std::thread> threads;
    for (int host = 0; host < hosts(); ++host) {
      for (int index = 0; index < GetParam()[host]; ++index) {
        threads.emplace_back([&, host, index] { RunRank(host, index, &all, peers, body); });
      }
    }
    for (std::thread& thread : threads) thread.join();
  }

  // What the ranks' values at element i add up to: over a host in rank order, then over the hosts.
  float Sum(int64_t i, int round = 0) const {
    float sum = 0;
    for (int host = 0; host < hosts(); ++host) {
      float of_host = Value(ranks_of_[host][0], i, round);
      for (size_t k = 1; k < ranks_of_[host].size(); ++k) of_host += Value(ranks_of_[host][k], i, round);
      sum = host == 0 ? of_host : sum + of_host;
    }
    return sum;
  }

  // Of very different size, so that another order of additions gives other bits.
  static float Value(int rank, int64_t i, int round = 0) {
    const uint64_t bits = Mix({static_cast<uint64_t>(rank), static_cast<uint64_t>(i), static_cast<uint64_t>(round)});
    return std::ldexp(static_cast<float>(bits % 2001) - 1000.0f, static_cast<int>(bits >> 32) % 20);
  }

  static void Fill(const Rank& rank, int64_t first, int64_t count, int round = 0) {
    for (int64_t i = first; i < first + count; ++i) rank.data()[i] = Value(rank.rank, i, round);
  }

  static absl::Status Finish(const std::vector<Operation*>& operations) {
    const int64_t until_ns = MonotonicNanos() + 60'000'000'000;
    std::vector<bool> done(operations.size(), false);
    for (size_t open = operations.size(); open > 0; std::this_thread::yield()) {
      if (MonotonicNanos() > until_ns) return absl::DeadlineExceededError("the operations have not ended");
      for (size_t i = 0; i < operations.size(); ++i) {
        if (done[i]) continue;
        const absl::StatusOr<bool> polled = operations[i]->Poll();
        if (!polled.ok()) return polled.status();
        done[i] = *polled;
        if (*polled) --open;
      }
    }
    return absl::OkStatus();
  }

  std::vector<std::vector<int>> ranks_of_;
  int slices_ = 1 << 30;

 private:
  void RunRank(int host, int index, ThreadGroup* all, const std::vector<std::unique_ptr<ThreadGroup>>& peers,
               const std::function<void(const Rank&)>& body) {
    WindowOptions options;
    options.ranks = ranks_of_[host];
    options.index = index;
    options.name = absl::StrCat("lockstep-host-test-", getpid(), "-", host, "-",
                                ::testing::UnitTest::GetInstance()->current_test_info()->name());
    options.rank_bytes = kElements * static_cast<int64_t>(sizeof(float));
    options.shared_bytes = 4001;
    auto window = HostWindow::Open(options);
    ASSERT_TRUE(window.ok()) << window.status();
    const std::unique_ptr<Collectives> of_job = all->Rank(ranks_of_[host][index]);
    std::unique_ptr<Collectives> of_index;
    if (hosts() > 1 && index < slices_) of_index = peers[index]->Rank(host);
    HostCollectives collectives(window->get(), of_job.get(), of_index.get(), hosts(), slices_);
    body({ranks_of_[host][index], host, index, window->get(), &collectives});
  }
};

TEST_P(HostCollectivesTest, EveryRankGetsTheSumInTheOrderOfRanksAndHosts) {
  OnRanks([this](const Rank& rank) {
    for (const int64_t count : {int64_t{1}, int64_t{15}, int64_t{17}, int64_t{4096}, kElements - 32}) {
      Fill(rank, 32, count);
      auto operation = rank.collectives->AllReduce(rank.bytes(32, count), DType::kF32, ReduceOp::kSum);
      ASSERT_TRUE(operation.ok());
      ASSERT_TRUE(Finish({operation->get()}).ok());
      for (int64_t i = 32; i < 32 + count; ++i) ASSERT_EQ(rank.data()[i], Sum(i)) << "element " << i << " of " << count;
    }
  });
}

TEST_P(HostCollectivesTest, OperationsUnderWayAtOnceDoNotMix) {
  OnRanks([this](const Rank& rank) {
    constexpr int64_t kEach = 16 * 600;
    for (int round = 0; round < 20; ++round) {
      std::vector<std::unique_ptr<Operation>> operations;
      std::vector<Operation*> under_way;
      for (int64_t k = 0; k < 10; ++k) {
        Fill(rank, k * kEach, kEach, round);
        operations.push_back(*rank.collectives->AllReduce(rank.bytes(k * kEach, kEach), DType::kF32, ReduceOp::kSum));
        // Polled in an order of each rank's own.
        under_way.insert(rank.rank % 2 == 0 ? under_way.begin() : under_way.end(), operations.back().get());
      }
      ASSERT_TRUE(Finish(under_way).ok());
      for (int64_t i = 0; i < 10 * kEach; ++i) ASSERT_EQ(rank.data()[i], Sum(i, round));
    }
  });
}

TEST_P(HostCollectivesTest, ReducedToSlicesTheRanksOfAHostHaveTheWholeSumAmongThem) {
  OnRanks([this](const Rank& rank) {
    Fill(rank, 0, kElements);
    auto operation = rank.collectives->ReduceToSlice(rank.all(), nullptr);
    ASSERT_TRUE(operation.ok());
    ASSERT_TRUE(Finish({operation->get()}).ok());
    ASSERT_TRUE(rank.window->Barrier("looking").ok());
    const HostCollectives::Slice own = rank.collectives->SliceOf(0, kElements);
    EXPECT_TRUE(own.first % 16 == 0 || own.count == 0) << "a cache line has two owners";
    int64_t found = 0;
    for (int index = 0; index < rank.window->count(); ++index) {
      const float* const theirs = reinterpret_cast<const float*>(rank.window->of(index).data());
      while (found < kElements && theirs[found] == Sum(found)) ++found;
    }
    EXPECT_EQ(found, kElements);
    for (int64_t i = own.first; i < own.first + own.count; ++i) ASSERT_EQ(rank.data()[i], Sum(i));
  });
}

TEST_P(HostCollectivesTest, WhatGoesBetweenHostsMayBeReplaced) {
  if (hosts() == 1) return;
  OnRanks([this](const Rank& rank) {
    Fill(rank, 0, kElements);
    // The second host's part is left out: the sum of the first host reaches everyone.
    const auto first_host_wins = [&rank](Collectives* peers, absl::Span<float> slice) {
      auto* const bytes = reinterpret_cast<std::byte*>(slice.data());
      return peers->Broadcast(absl::MakeSpan(bytes, slice.size() * sizeof(float)), 0);
    };
    auto operation = rank.collectives->ReduceToSlice(rank.all(), first_host_wins);
    ASSERT_TRUE(operation.ok());
    ASSERT_TRUE(Finish({operation->get()}).ok());
    const HostCollectives::Slice own = rank.collectives->SliceOf(0, kElements);
    for (int64_t i = own.first; i < own.first + own.count; ++i) {
      float expected = Value(ranks_of_[0][0], i);
      for (size_t k = 1; k < ranks_of_[0].size(); ++k) expected += Value(ranks_of_[0][k], i);
      ASSERT_EQ(rank.data()[i], expected);
    }
    ASSERT_TRUE(rank.window->Barrier("leaving").ok());
  });
}

TEST_P(HostCollectivesTest, EveryHostsSharedPartGetsTheFirstHostsBits) {
  OnRanks([](const Rank& rank) {
    const absl::Span<std::byte> shared = rank.window->shared();
    for (int round = 0; round < 10; ++round) {
      if (rank.index == 0) std::memset(shared.data(), rank.host == 0 ? 0x40 + round : 0xff, shared.size());
      auto operation = rank.collectives->BroadcastShared(shared);
      ASSERT_TRUE(operation.ok());
      ASSERT_TRUE(Finish({operation->get()}).ok());
      for (const std::byte byte : shared) ASSERT_EQ(byte, static_cast<std::byte>(0x40 + round));
      ASSERT_TRUE(rank.window->Barrier("reading").ok());
    }
  });
}

TEST_P(HostCollectivesTest, DataElsewhereIsReducedAllTheSame) {
  OnRanks([this](const Rank& rank) {
    std::vector<double> values = {1.0 + rank.rank, 2.0};
    auto operation = rank.collectives->AllReduce(
        absl::MakeSpan(reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(double)), DType::kF64,
        ReduceOp::kSum);
    ASSERT_TRUE(operation.ok());
    ASSERT_TRUE(Finish({operation->get()}).ok());
    const int world = ranks_of_.back().back() + 1;
    EXPECT_EQ(values[0], world * (world + 1) / 2);
    EXPECT_EQ(values[1], 2.0 * world);
  });
}

TEST_P(HostCollectivesTest, AnOperationDoesNotEndBeforeEveryRankHasCome) {
  if (ranks_of_[0].size() < 2) return;
  std::atomic<bool> polled{false};
  OnRanks([&polled](const Rank& rank) {
    if (rank.rank == 1) {
      while (!polled) std::this_thread::yield();
    }
    auto operation = rank.collectives->AllReduce(rank.bytes(0, kElements), DType::kF32, ReduceOp::kSum);
    ASSERT_TRUE(operation.ok());
    if (rank.rank == 0) {
      for (int poll = 0; poll < 1000; ++poll) {
        const absl::StatusOr<bool> done = (*operation)->Poll();
        ASSERT_TRUE(done.ok() && !*done);
      }
      polled = true;
    }
    ASSERT_TRUE(Finish({operation->get()}).ok());
  });
}

INSTANTIATE_TEST_SUITE_P(Hosts, HostCollectivesTest,
                         ::testing::Values(std::vector<int>{2}, std::vector<int>{3}, std::vector<int>{4},
                                           std::vector<int>{1, 1}, std::vector<int>{2, 2}, std::vector<int>{3, 1},
                                           std::vector<int>{2, 1, 2}),
                         [](const auto& info) { return absl::StrJoin(info.param, "And"); });

}  // namespace
}  // namespace lockstep
