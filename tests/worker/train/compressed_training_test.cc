// Training with compressed gradients on every rank of an MPI job, each with its own fake coordinator.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/checkpoint/checkpoint.h"
#include "common/checkpoint/safetensors.h"
#include "tests/support/mpi_main.h"
#include "tests/worker/train/fakes.h"
#include "worker/train/trainer.h"

namespace lockstep {
namespace {

constexpr int64_t kSteps = 20, kStopAt = 11;

struct Trained {
  TrainingEnd end;
  Cursor cursor;
  std::vector<float> parameters;
  std::unique_ptr<FakeLink> link;
};

const std::string* FileNamed(const CoordinatorLink::Downloaded& checkpoint, const std::string& name) {
  for (int i = 0; i < checkpoint.header.files_size(); ++i) {
    if (checkpoint.header.files(i).name() == name) return &checkpoint.files[i];
  }
  return nullptr;
}

std::vector<float> TensorNamed(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo* const tensor = file.Find(name);
  if (tensor == nullptr) return {};
  std::vector<float> values((tensor->end - tensor->begin) / sizeof(float));
  std::memcpy(values.data(), file.data(*tensor).data(), values.size() * sizeof(float));
  return values;
}

class CompressedTrainingTest : public testing::TestWithParam<Compression> {
 protected:
  CompressedTrainingTest() : rank_(TestSession().rank()), world_(TestSession().world()) {
    MpiOptions mpi;
    // What is exact goes as what is not, so that bytes compare: doubled, some ranks send more than others.
    mpi.ways = {{kAnySize, Way::kRing}};
    mpi.shorten_from_bytes = 0;
    if (world_ > 1) collectives_ = *TestSession().NewCollectives(mpi);
    config_ = ToyConfig(128);
    Communication* communication = config_.mutable_communication();
    communication->set_algorithm(ALGORITHM_RING);
    communication->set_compression(GetParam());
    communication->set_topk_ratio(0.1);
    communication->set_powersgd_rank(2);
    script_.final_step = kSteps;
  }

  // From the beginning, or from `broken`'s last checkpoint.
  Trained Train(const Trained* broken = nullptr, bool alone = false) {
    Trained trained;
    trained.link = std::make_unique<FakeLink>(script_);
    TrainerOptions options;
    options.config = config_;
    options.rank = alone ? 0 : rank_;
    options.world = alone ? 1 : world_;
    options.collectives = alone ? nullptr : collectives_.get();
    if (broken != nullptr) {
      options.resume.emplace();
      *options.resume->mutable_cursor() = broken->cursor;
      if (options.rank == 0) trained.link->download = broken->link->uploads.back();
    }
    options.link = trained.link.get();
    options.network = *CreateModel(config_, "cpu");
    options.objective = *CreateObjective(config_.loss(), "cpu");
    options.train = MakeToyData(1026, 12, 4);
    options.validation = MakeToyData(101, 12, 4);
    auto trainer = *Trainer::Create(std::move(options));
    trained.end = trainer->Run();
    trained.cursor = trainer->cursor();
    FlatParameters& parameters = trainer->parameters();
    trained.parameters.assign(parameters.data(), parameters.data() + parameters.layout().elements());
    return trained;
  }

  Trained TrainUntil(int64_t step) {
    script_.directives.emplace_back(step, Directive());
    script_.directives.back().second.mutable_stop()->set_rule("request");
    Trained trained = Train();
    EXPECT_TRUE(trained.end.status.ok()) << trained.end.status;
    EXPECT_EQ(trained.cursor.step(), step);
    script_.directives.clear();
    return trained;
  }

  // Rank 0's, on every rank.
  template <typename T>
  std::vector<T> OfRank0(std::vector<T> values) {
    if (world_ == 1) return values;
    const absl::Span<std::byte> bytes(reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(T));
    auto operation = *collectives_->Broadcast(bytes, 0);
    const int64_t until_ns = MonotonicNanos() + 30'000'000'000;
    while (!*operation->Poll() && MonotonicNanos() < until_ns) {
    }
    return values;
  }

  bool holds_back() const { return GetParam() == COMPRESSION_TOPK || GetParam() == COMPRESSION_POWERSGD; }

  const int rank_, world_;
  std::unique_ptr<Collectives> collectives_;
  RunConfig config_;
  FakeLink::Script script_;
};

double LossOf(const StepRecord& record) { return record.loss_sum() / static_cast<double>(record.samples()); }

TEST_P(CompressedTrainingTest, ReplicasStayBitwiseEqualAndLearnWhileLessIsSent) {
  const Trained compressed = Train();
  ASSERT_TRUE(compressed.end.status.ok()) << compressed.end.status;
  EXPECT_TRUE(compressed.parameters == OfRank0(compressed.parameters));
  const std::vector<StepRecord>& records = compressed.link->records;
  config_.mutable_communication()->set_compression(COMPRESSION_NONE);
  const Trained exact = Train();
  const StepRecord &first = exact.link->records.front(), &last = exact.link->records.back();
  EXPECT_LT(LossOf(records.back()), (LossOf(first) + LossOf(last)) / 2);
  EXPECT_EQ(compressed.parameters == exact.parameters, world_ == 1);
  EXPECT_EQ(records.back().grad_bytes(), last.grad_bytes());
  if (world_ == 1) return;
  EXPECT_GT(records.back().wire_bytes(), 0);
  EXPECT_LT(static_cast<double>(records.back().wire_bytes()), 0.7 * static_cast<double>(last.wire_bytes()));
}

TEST_P(CompressedTrainingTest, AResumedRunIsTheUnbrokenOneBitwise) {
  const Trained unbroken = Train();
  const Trained broken = TrainUntil(kStopAt);
  if (rank_ == 0) {
    EXPECT_EQ(FileNamed(broken.link->uploads.back(), kRanksFile) != nullptr, holds_back());
  }
  const Trained resumed = Train(&broken);
  ASSERT_TRUE(resumed.end.status.ok()) << resumed.end.status;
  EXPECT_EQ(resumed.cursor.step(), kSteps);
  EXPECT_TRUE(resumed.parameters == unbroken.parameters);
}

TEST_P(CompressedTrainingTest, WhatWasHeldBackIsAppliedWhenOneRankGoesOnAlone) {
  config_.mutable_optimizer()->set_momentum(0);
  const Trained broken = TrainUntil(kStopAt);
  if (rank_ != 0) return;
  script_.final_step = kStopAt + 1;
  script_.checkpoint_at = {kStopAt + 1};
  const Trained alone = Train(&broken, /*alone=*/true);
  ASSERT_TRUE(alone.end.status.ok()) << alone.end.status;
  Trained forgetful;
  forgetful.cursor = broken.cursor;
  forgetful.link = std::make_unique<FakeLink>(script_);
  forgetful.link->uploads = {broken.link->uploads.back()};
  CoordinatorLink::Downloaded& checkpoint = forgetful.link->uploads.back();
  std::vector<double> held(alone.parameters.size());
  if (holds_back()) {
    const SafetensorsFile file = *ParseSafetensors(*FileNamed(checkpoint, kRanksFile));
    for (int rank = 0; rank < world_; ++rank) {
      const std::vector<float> residual = TensorNamed(file, absl::StrCat("residual/", rank));
      ASSERT_EQ(residual.size(), held.size());
      for (size_t i = 0; i < held.size(); ++i) held[i] += residual[i];
    }
    checkpoint.header.mutable_files()->RemoveLast();
    checkpoint.files.pop_back();
  }
  config_.mutable_communication()->set_compression(COMPRESSION_NONE);
  const Trained without = Train(&forgetful, /*alone=*/true);
  ASSERT_TRUE(without.end.status.ok()) << without.end.status;
  double largest = 0;
  for (size_t i = 0; i < held.size(); ++i) {
    ASSERT_NEAR(without.parameters[i] - alone.parameters[i], 0.1 * held[i], 1e-6) << "element " << i;
    largest = std::max(largest, std::abs(held[i]));
  }
  EXPECT_EQ(largest > 1e-3, holds_back() && world_ > 1);
  if (!holds_back()) return;
  const SafetensorsFile after = *ParseSafetensors(*FileNamed(alone.link->uploads.back(), kRanksFile));
  EXPECT_EQ(TensorNamed(after, "residual/0"), std::vector<float>(held.size())) << "applied once";
}

TEST_P(CompressedTrainingTest, ACheckpointOfOneRankGoesOnOnAll) {
  script_.final_step = kStopAt;
  script_.checkpoint_at = {kStopAt};
  const Trained alone = Train(nullptr, /*alone=*/true);
  script_.final_step = kSteps;
  const Trained together = Train(&alone);
  ASSERT_TRUE(together.end.status.ok()) << together.end.status;
  EXPECT_TRUE(together.parameters == OfRank0(together.parameters));
}

INSTANTIATE_TEST_SUITE_P(Compressions, CompressedTrainingTest,
                         testing::Values(COMPRESSION_FP16, COMPRESSION_BF16, COMPRESSION_TOPK, COMPRESSION_POWERSGD),
                         [](const auto& info) { return Compression_Name(info.param).substr(12); });

}  // namespace
}  // namespace lockstep
