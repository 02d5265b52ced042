#include "worker/train/snapshot.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "common/checkpoint/checkpoint.h"
#include "common/checkpoint/safetensors.h"
#include "tests/worker/train/fakes.h"

namespace lockstep {
namespace {

struct Replica {
  Replica(uint64_t seed, const Optimizer& config)
      : network(seed),
        parameters(std::make_unique<FlatParameters>(*FlatParameters::LayoutOf(network, config), network)),
        optimizer(CreateOptimizer(config, &parameters->layout())) {}
  OddNetwork network;
  std::unique_ptr<FlatParameters> parameters;
  std::unique_ptr<SpanOptimizer> optimizer;
};

Optimizer AdamW() {
  Optimizer config;
  config.set_name(OPTIMIZER_NAME_ADAMW);
  config.set_beta1(0.9);
  config.set_beta2(0.999);
  return config;
}

CoordinatorLink::Downloaded FilesOf(Replica* replica) {
  Snapshot snapshot(&replica->network, replica->parameters.get(), replica->optimizer.get());
  EXPECT_TRUE(snapshot.Take().ok());
  std::string bytes;
  for (absl::string_view chunk = snapshot.NextChunk(); !chunk.empty(); chunk = snapshot.NextChunk()) {
    bytes.append(chunk.data(), chunk.size());
  }
  CoordinatorLink::Downloaded files;
  size_t begin = 0;
  for (const Manifest::File& file : snapshot.files()) {
    *files.header.add_files() = file;
    files.files.push_back(bytes.substr(begin, file.bytes()));
    begin += file.bytes();
  }
  EXPECT_EQ(begin, bytes.size());
  return files;
}

void Disturb(Replica* replica) {
  for (const SpanOptimizer::State& state : replica->optimizer->states()) {
    for (size_t i = 0; i < state.values.size(); ++i) state.values[i] = static_cast<float>(i) + 0.5f;
  }
  torch::Tensor mean = replica->network.buffers()[0].tensor, batches = replica->network.buffers()[1].tensor;
  mean.fill_(3);
  batches.fill_(17);
}

TEST(SnapshotTest, ANetworkRestoredFromItIsTheSame) {
  Replica one(1, AdamW()), other(2, AdamW());
  Disturb(&one);
  const absl::Status restored =
      RestoreTensors(FilesOf(&one), &other.network, other.parameters.get(), other.optimizer.get());
  ASSERT_TRUE(restored.ok()) << restored;
  const CoordinatorLink::Downloaded a = FilesOf(&one), b = FilesOf(&other);
  EXPECT_EQ(a.files, b.files);
  EXPECT_EQ(other.network.buffers()[1].tensor.item<int64_t>(), 17);
  EXPECT_TRUE(one.network.frozen()[0].tensor.equal(other.network.frozen()[0].tensor));
}

TEST(SnapshotTest, OptimizerStatesHaveTheParametersNamesAndShapesInTheirOrder) {
  Replica replica(1, AdamW());
  const SafetensorsFile file = *ParseSafetensors(FilesOf(&replica).files[1]);
  ASSERT_EQ(file.header.tensors.size(), 8u);
  EXPECT_EQ(file.header.tensors[0].name, "exp_avg/encoder.weight");
  EXPECT_EQ(file.header.tensors[0].shape, std::vector<int64_t>({6, 6}));
  EXPECT_EQ(file.header.tensors[7].name, "exp_avg_sq/decoder.bias");
}

TEST(SnapshotTest, TheModelFileHasEveryNameOfTheStateDict) {
  Replica replica(1, AdamW());
  const SafetensorsFile file = *ParseSafetensors(FilesOf(&replica).files[0]);
  for (const char* name : {"encoder.weight", "encoder.bias", "unused", "decoder.bias", "scale", "running_mean",
                           "batches", "decoder.weight"}) {
    EXPECT_NE(file.Find(name), nullptr) << name;
  }
}

TEST(SnapshotTest, AnOptimizerWithoutStatesIsAFileWithoutTensors) {
  Replica replica(1, Optimizer());
  CoordinatorLink::Downloaded files = FilesOf(&replica);
  EXPECT_TRUE(ParseSafetensors(files.files[1])->header.tensors.empty());
  EXPECT_TRUE(RestoreTensors(files, &replica.network, replica.parameters.get(), replica.optimizer.get()).ok());
}

TEST(SnapshotTest, StatesOfAnotherOptimizerAreRefusedByName) {
  Replica adamw(1, AdamW()), sgd(1, Optimizer());
  const absl::Status from_sgd =
      RestoreTensors(FilesOf(&sgd), &adamw.network, adamw.parameters.get(), adamw.optimizer.get());
  EXPECT_EQ(from_sgd.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(from_sgd.message(), "optimizer.safetensors: no tensor 'exp_avg/decoder.bias'");
  const absl::Status from_adamw =
      RestoreTensors(FilesOf(&adamw), &sgd.network, sgd.parameters.get(), sgd.optimizer.get());
  EXPECT_EQ(from_adamw.message(), "optimizer.safetensors: 8 tensors, the optimizer has 0: it belongs to another one");
}

TEST(SnapshotTest, ACheckpointWithoutAFileIsRefused) {
  Replica replica(1, AdamW());
  CoordinatorLink::Downloaded files = FilesOf(&replica);
  files.header.mutable_files()->RemoveLast();
  EXPECT_EQ(RestoreTensors(files, &replica.network, replica.parameters.get(), replica.optimizer.get()).message(),
            "the checkpoint has no optimizer.safetensors");
}

}  // namespace
}  // namespace lockstep
