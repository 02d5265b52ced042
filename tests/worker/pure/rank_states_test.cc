#include "worker/train/rank_states.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/thread_collectives.h"

namespace lockstep {
namespace {

constexpr int64_t kElements = 1000;

// One rank's own arrays, one of each kind.
struct Own {
  Own() : residual(kElements), momentum(kElements), q(7) {}
  explicit Own(int rank) : Own() {
    for (int64_t i = 0; i < kElements; ++i) {
      residual[i] = static_cast<float>(rank * 10000 + i) / 3;
      momentum[i] = static_cast<float>(i - rank);
    }
    for (size_t i = 0; i < q.size(); ++i) q[i] = 0.1F + static_cast<float>(i);
  }
  std::vector<RankState> states() {
    return {{"residual", absl::MakeSpan(residual), RankState::Share::kSum},
            {"q", absl::MakeSpan(q), RankState::Share::kSame},
            {"momentum", absl::MakeSpan(momentum), RankState::Share::kMean}};
  }
  std::vector<float> residual, momentum, q, another;
};

void OnRanks(int world, const std::function<void(int rank, CommThread* comm)>& body) {
  if (world == 1) return body(0, nullptr);
  ThreadGroup group(world);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < world; ++rank) {
    ranks.emplace_back([&, rank] {
      const std::unique_ptr<Collectives> collectives = group.Rank(rank);
      CommThread comm(collectives.get(), absl::Seconds(60));
      body(rank, &comm);
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

std::string FileOf(int world) {
  std::string file;
  OnRanks(world, [&](int rank, CommThread* comm) {
    Own own(rank);
    std::string none;
    const absl::Status gathered = GatherRankStates(own.states(), rank, world, comm, rank == 0 ? &file : &none);
    ASSERT_TRUE(gathered.ok()) << gathered;
    EXPECT_TRUE(none.empty());
  });
  return file;
}

using StatesOf = std::function<std::vector<RankState>(Own* own)>;

// What each of `world` ranks gets out of a file.
std::vector<Own> GivenBack(
    const std::string& bytes, int world, const StatesOf& states_of = [](Own* own) { return own->states(); }) {
  std::vector<Own> all(world);
  OnRanks(world, [&](int rank, CommThread* comm) {
    SafetensorsFile file;
    std::vector<int> stored;
    if (rank == 0) {
      if (!bytes.empty()) file = *ParseSafetensors(bytes);
      const absl::StatusOr<std::vector<int>> ranks = CheckRankStates(file, states_of(&all[0]));
      ASSERT_TRUE(ranks.ok()) << ranks.status();
      stored = *ranks;
    }
    const absl::Status given = GiveRankStates(file, stored, states_of(&all[rank]), rank, world, comm);
    ASSERT_TRUE(given.ok()) << given;
  });
  return all;
}

TEST(RankStatesTest, AsManyRanksGetTheirOwnBitsBack) {
  for (const int world : {1, 2, 4}) {
    const std::vector<Own> given = GivenBack(FileOf(world), world);
    for (int rank = 0; rank < world; ++rank) {
      const Own own(rank);
      EXPECT_EQ(given[rank].residual, own.residual);
      EXPECT_EQ(given[rank].momentum, own.momentum);
      EXPECT_EQ(given[rank].q, own.q);
    }
  }
}

TEST(RankStatesTest, AnotherNumberOfRanksKeepsSumsMeansAndWhatAllShare) {
  for (const auto& [before, now] : std::vector<std::pair<int, int>>{{1, 3}, {4, 1}, {2, 4}, {4, 3}}) {
    const std::vector<Own> given = GivenBack(FileOf(before), now);
    std::vector<Own> stored;
    for (int rank = 0; rank < before; ++rank) stored.emplace_back(rank);
    for (int64_t i = 0; i < kElements; ++i) {
      double residual = 0, momentum = 0, kept = 0;
      for (const Own& own : stored) {
        residual += own.residual[i];
        momentum += own.momentum[i] / before;
      }
      for (const Own& own : given) {
        kept += own.residual[i];
        ASSERT_NEAR(own.momentum[i], momentum, 1e-3);
        ASSERT_EQ(own.residual[i], given[0].residual[i]);
      }
      ASSERT_NEAR(kept, residual, 1e-2) << before << " to " << now;
    }
    for (const Own& own : given) EXPECT_EQ(own.q, Own(0).q);
  }
}

TEST(RankStatesTest, WhatTheFileHasNotStaysAsItIs) {
  const StatesOf with_another = [](Own* own) {
    std::vector<RankState> states = own->states();
    own->another = {1, 2, 3};
    states.push_back({"another", absl::MakeSpan(own->another), RankState::Share::kSum});
    return states;
  };
  for (const int now : {1, 2, 3}) {
    for (const Own& own : GivenBack(FileOf(2), now, with_another)) {
      EXPECT_EQ(own.another, (std::vector<float>{1, 2, 3}));
      EXPECT_EQ(own.q, Own(0).q);
    }
    for (const Own& own : GivenBack("", now)) EXPECT_EQ(own.residual, Own().residual);
  }
}

TEST(RankStatesTest, WhatAllSharedAndWhatEachHadTurnIntoEachOther) {
  const auto turned = [](RankState::Share momentum, RankState::Share q) {
    return [momentum, q](Own* own) {
      std::vector<RankState> states = own->states();
      states[1].share = q;
      states[2].share = momentum;
      return states;
    };
  };
  for (const int now : {1, 2, 3}) {
    for (const Own& own : GivenBack(FileOf(2), now, turned(RankState::Share::kSame, RankState::Share::kMean))) {
      EXPECT_EQ(own.q, Own(0).q);
      for (int64_t i = 0; i < kElements; ++i) ASSERT_EQ(own.momentum[i], static_cast<float>(i) - 0.5F);
    }
  }
}

TEST(RankStatesTest, TensorsAreNamedByStateAndRankAndWhatAllShareIsThereOnce) {
  const SafetensorsFile file = *ParseSafetensors(FileOf(2));
  std::vector<std::string> names;
  for (const TensorInfo& tensor : file.header.tensors) {
    names.push_back(tensor.name);
    EXPECT_EQ(tensor.dtype, "F32");
    EXPECT_EQ(tensor.shape.size(), 1u);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"residual/0", "residual/1", "q/0", "momentum/0", "momentum/1"}));
}

TEST(RankStatesTest, WithoutStatesThereIsNoFile) {
  std::string file = "of the checkpoint before";
  ASSERT_TRUE(GatherRankStates({}, 0, 1, nullptr, &file).ok());
  EXPECT_TRUE(file.empty());
  EXPECT_TRUE(CheckRankStates(SafetensorsFile(), {}).ok());
}

TEST(RankStatesTest, AFileThatDoesNotFitSaysWhy) {
  Own own(0);
  const SafetensorsFile file = *ParseSafetensors(FileOf(2));
  own.q.resize(8);
  EXPECT_EQ(CheckRankStates(file, own.states()).status(),
            absl::DataLossError("ranks.safetensors: 'q/0' is F32 [7], this run's is F32 [8]"));
  own.q.resize(7);
  std::vector<RankState> fewer = own.states();
  fewer.pop_back();
  EXPECT_EQ(CheckRankStates(file, fewer).status(),
            absl::DataLossError("ranks.safetensors: 5 tensors, of which this run knows 3: a part is missing, or it "
                                "belongs to another communication.compression or communication.period"));
}

}  // namespace
}  // namespace lockstep
