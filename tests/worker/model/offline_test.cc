#include "worker/model/offline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <torch/types.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/base/file.h"
#include "common/checkpoint/checkpoint.h"
#include "common/config/config.h"
#include "common/data/digits.h"
#include "tests/worker/model/reference.h"
#include "worker/model/model.h"
#include "worker/model/weights.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Said {
  int code;
  std::string out, err;
};

Said Capture(const std::function<int()>& body) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  Said said;
  said.code = body();
  said.out = ::testing::internal::GetCapturedStdout();
  said.err = ::testing::internal::GetCapturedStderr();
  return said;
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Digits, the config of a run on them, and a checkpoint of a net that has not learned anything.
class OfflineTest : public ::testing::Test {
 protected:
  static constexpr int64_t kValidation = 70;

  void SetUp() override {
    std::filesystem::remove_all(TestPath("run"));
    std::filesystem::create_directories(TestPath("run/checkpoints"));
    DigitsOptions digits;
    digits.train = 40;
    digits.validation = kValidation;
    ASSERT_TRUE(MakeDigits(digits, TestPath("run/digits")).ok());
    std::ofstream(TestPath("run/config.yaml")) << absl::StrCat(
        "data: {path: ", TestPath("run/digits"), "}\n", "model: {name: mlp, hidden: [16], inputs: 784, outputs: 10}\n",
        "metrics: [accuracy]\n", "evaluation: {batch_size: 32}\n");
    config_ = *LoadConfig(TestPath("run/config.yaml"), {});
    WriteCheckpoint();
    options_.checkpoint = TestPath("run/checkpoints/latest");
    options_.config = TestPath("run/config.yaml");
  }

  void WriteCheckpoint() {
    network_ = *CreateModel(config_, "cpu");
    FileSystem* const files = FileSystem::Real();
    SavedWeights weights = SaveWeights(*network_, /*copy=*/true);
    auto writer = *CheckpointWriter::Create(files, TestPath("run/checkpoints"), 330);
    ASSERT_TRUE(writer->BeginFile(kModelFile).ok());
    ASSERT_TRUE(writer->Append(*MakeSafetensorsHeader(&weights.tensors, {})).ok());
    for (size_t i = 0; i < weights.tensors.size(); ++i) ASSERT_TRUE(writer->Append(weights.bytes(i)).ok());
    ASSERT_TRUE(writer->AddFile(kOptimizerFile, "not read here").ok());
    ASSERT_TRUE(writer->AddFile(kStateFile, "nor this").ok());
    const auto committed = writer->Commit();
    ASSERT_TRUE(committed.ok()) << committed.status();
    ASSERT_TRUE(PointLink(files, TestPath("run/checkpoints"), "latest", 330).ok());
  }

  // What the network says of the validation images, read from the IDX files here, byte by byte.
  torch::Tensor Probabilities() {
    const std::string raw = ReadAll(TestPath("run/digits/val-images-idx3-ubyte"));
    torch::Tensor images = torch::empty({kValidation, 784});
    for (int64_t i = 0; i < images.numel(); ++i) {
      images.data_ptr<float>()[i] = static_cast<float>(static_cast<unsigned char>(raw[16 + i])) / 255;
    }
    const torch::NoGradGuard no_grad;
    return network_->Forward(images)->softmax(1);
  }

  double Accuracy() {
    const std::string labels = ReadAll(TestPath("run/digits/val-labels-idx1-ubyte"));
    const torch::Tensor predicted = Probabilities().argmax(1);
    int right = 0;
    for (int64_t i = 0; i < kValidation; ++i) right += predicted[i].item<int64_t>() == labels[8 + i];
    return static_cast<double>(right) / kValidation;
  }

  RunConfig config_;
  std::unique_ptr<Network> network_;
  OfflineOptions options_;
};

TEST_F(OfflineTest, EvaluateSaysTheMetricsOfTheWholeSplit) {
  const Said said = Capture([&] { return Evaluate(options_); });
  EXPECT_EQ(said.code, 0) << said.err;
  EXPECT_THAT(said.out, StartsWith(absl::StrFormat("accuracy %.4f, loss 2.", Accuracy())));
  EXPECT_THAT(said.out, HasSubstr(" over 70 samples (checkpoint step-00000330)\n"));
}

TEST_F(OfflineTest, EvaluateAsJson) {
  options_.json = true;
  const Said said = Capture([&] { return Evaluate(options_); });
  ASSERT_EQ(said.code, 0) << said.err;
  const auto json = nlohmann::json::parse(said.out);
  EXPECT_EQ(json["checkpoint"], "step-00000330");
  EXPECT_EQ(json["split"], "validation");
  EXPECT_EQ(json["samples"], kValidation);
  EXPECT_DOUBLE_EQ(json["metrics"]["accuracy"], Accuracy());
  options_.split = "train";
  EXPECT_THAT(Capture([&] { return Evaluate(options_); }).out, HasSubstr("\"samples\":40"));
}

TEST_F(OfflineTest, EvaluateTakesOtherDataInPlaceOfTheRuns) {
  std::filesystem::rename(TestPath("run/digits"), TestPath("run/moved"));
  EXPECT_EQ(Capture([&] { return Evaluate(options_); }).code, 2);
  options_.data = TestPath("run/moved");
  EXPECT_EQ(Capture([&] { return Evaluate(options_); }).code, 0);
}

TEST_F(OfflineTest, EvaluateDoesNotNeedTheFileThatTheRunBeganWith) {
  std::string yaml = ReadAll(options_.config);
  yaml.replace(yaml.find("outputs: 10"), 11, "outputs: 10, init_from: /nowhere/begin.safetensors");
  std::ofstream(options_.config) << yaml;
  const Said said = Capture([&] { return Evaluate(options_); });
  EXPECT_EQ(said.code, 0) << said.err;
}

TEST_F(OfflineTest, PredictWritesARowForEachSample) {
  options_.output = TestPath("run/predictions.csv");
  const Said said = Capture([&] { return Predict(options_); });
  ASSERT_EQ(said.code, 0) << said.err;
  EXPECT_EQ(said.out, "");
  const std::vector<std::string> lines = absl::StrSplit(ReadAll(options_.output), '\n');
  ASSERT_EQ(lines.size(), kValidation + 2);  // with the header, and nothing after the last newline
  EXPECT_EQ(lines[0], "id,prediction,probability");
  const torch::Tensor probabilities = Probabilities();
  for (int64_t i = 0; i < kValidation; ++i) {
    const std::vector<std::string> cells = absl::StrSplit(lines[i + 1], ',');
    ASSERT_EQ(cells.size(), 3);
    EXPECT_EQ(cells[0], absl::StrCat(i));
    EXPECT_EQ(cells[1], absl::StrCat(probabilities[i].argmax().item<int64_t>()));
    double probability = 0;
    ASSERT_TRUE(absl::SimpleAtod(cells[2], &probability));
    EXPECT_NEAR(probability, probabilities[i].max().item<double>(), 1e-6);
  }
}

TEST_F(OfflineTest, PredictAsJsonIsAnObjectALine) {
  options_.json = true;
  const Said said = Capture([&] { return Predict(options_); });
  ASSERT_EQ(said.code, 0) << said.err;
  EXPECT_EQ(std::count(said.out.begin(), said.out.end(), '\n'), kValidation);
  const auto first = nlohmann::json::parse(said.out.substr(0, said.out.find('\n')));
  EXPECT_EQ(first["id"], 0);
  EXPECT_TRUE(first["prediction"].is_number_integer());
  EXPECT_TRUE(first["probability"].is_number_float());
}

TEST_F(OfflineTest, PredictGivesValuesWhereThereAreNoClasses) {
  std::string yaml = ReadAll(options_.config);
  yaml.replace(yaml.find("metrics: [accuracy]"), 19, "loss: {name: mse}");
  std::ofstream(options_.config) << yaml;
  const Said said = Capture([&] { return Predict(options_); });
  ASSERT_EQ(said.code, 0) << said.err;
  EXPECT_THAT(said.out, StartsWith("id,value0,value1,value2,value3,value4,value5,value6,value7,value8,value9\n0,"));
}

TEST_F(OfflineTest, ADamagedCheckpointIsNotUsed) {
  const std::string file = TestPath("run/checkpoints/step-00000330/model.safetensors");
  std::string bytes = ReadAll(file);
  bytes[bytes.size() - 1] ^= 1;
  std::ofstream(file, std::ios::binary) << bytes;
  const Said said = Capture([&] { return Evaluate(options_); });
  EXPECT_EQ(said.code, 2);
  EXPECT_EQ(said.out, "");
  EXPECT_THAT(said.err, StartsWith("lockstep: "));
  EXPECT_THAT(said.err, HasSubstr("model.safetensors"));
  EXPECT_EQ(std::count(said.err.begin(), said.err.end(), '\n'), 1);
}

TEST_F(OfflineTest, WhatIsNotThereOrOfAnotherModelIsOneLine) {
  options_.checkpoint = TestPath("run/checkpoints/best");
  const Said missing = Capture([&] { return Evaluate(options_); });
  EXPECT_EQ(missing.code, 2);
  EXPECT_EQ(missing.err,
            absl::StrCat("lockstep: ", options_.checkpoint, ": no such checkpoint (No such file or directory)\n"));
  options_.checkpoint = TestPath("run/checkpoints/latest");
  options_.split = "test";
  EXPECT_EQ(Capture([&] { return Evaluate(options_); }).err, "lockstep: --split test: give val or train\n");
  options_.split = "validation";
  std::string yaml = ReadAll(options_.config);
  yaml.replace(yaml.find("[16]"), 4, "[17]");
  std::ofstream(options_.config) << yaml;
  const Said other = Capture([&] { return Evaluate(options_); });
  EXPECT_EQ(other.code, 2);
  EXPECT_THAT(other.err, HasSubstr("model.safetensors: the weights are not this model's: "));
}

TEST_F(OfflineTest, WhatIsNoFileStaysWhatItIs) {
  const std::string link = TestPath("link"), file = TestPath("file"), pipe = TestPath("pipe");
  std::ofstream(file) << "old";
  std::filesystem::create_symlink(file, link);
  options_.output = link;
  ASSERT_EQ(Capture([&] { return Predict(options_); }).code, 0);
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  const std::string table = ReadAll(file);
  EXPECT_THAT(table, StartsWith("id,prediction,probability\n"));

  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::future<std::string> read = std::async(std::launch::async, [&] { return ReadAll(pipe); });
  options_.output = pipe;
  ASSERT_EQ(Capture([&] { return Predict(options_); }).code, 0);
  EXPECT_EQ(read.get(), table);

  options_.output = TestPath("");
  const Said folder = Capture([&] { return Predict(options_); });
  EXPECT_EQ(folder.code, 2);
  EXPECT_THAT(folder.err, HasSubstr(": is a folder; give a file"));
}

TEST_F(OfflineTest, DescribeCountsWhatIsTrained) {
  std::istringstream yaml(ReadAll(options_.config));
  const Said said = Capture([&] { return Describe(yaml); });
  ASSERT_EQ(said.code, 0) << said.err;
  const int64_t parameters = 784 * 16 + 16 + 16 * 10 + 10;
  EXPECT_EQ(said.out,
            absl::StrCat("{\"parameters\":", parameters, ",\"grad_bytes\":", 4 * parameters, ",\"buffers\":0}\n"));
  std::istringstream wrong("model: {name: nonsense}");
  const Said refused = Capture([&] { return Describe(wrong); });
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, StartsWith("lockstep: config:1: "));
}

// Of convolutions, whose passes hold more than LibTorch's allocator gives them.
TEST_F(OfflineTest, NeedsAreTriedOnASmallBatch) {
  std::istringstream yaml(absl::StrCat("data: {path: ", TestPath("run/digits"),
                                       ", global_batch_size: 2000, prefetch: 3}\n"
                                       "workers: 2\nmodel: {name: cnn, inputs: 784, outputs: 10}\n"));
  const Said said = Capture([&] { return Needs(yaml); });
  ASSERT_EQ(said.code, 0) << said.err;
  const auto needs = nlohmann::json::parse(said.out);
  EXPECT_EQ(needs["parameters"].get<int64_t>(), 1199882);
  EXPECT_EQ(needs["input_bytes"].get<int64_t>(), int64_t{4} * 1000 * 784 * 4) << "the batch, and three that are ready";
  const double outputs = 1000.0 * 4 * (32 * 26 * 26 + 64 * 24 * 24);  // of the convolutions alone
  EXPECT_GT(needs["activation_bytes"].get<double>(), outputs);
  EXPECT_LT(needs["activation_bytes"].get<double>(), 20 * outputs);
  EXPECT_GT(needs["process_bytes"].get<int64_t>(), 1 << 20);
  EXPECT_GT(needs["address_bytes"].get<int64_t>(), needs["process_bytes"].get<int64_t>());
}

TEST(OfflineProbeTest, IsOneLineOfJson) {
  const Said said = Capture([] { return Probe(); });
  ASSERT_EQ(said.code, 0) << said.err;
  const auto json = nlohmann::json::parse(said.out);
  EXPECT_TRUE(json["torch"].is_string());
  EXPECT_TRUE(json["cuda"].is_boolean());
  EXPECT_TRUE(json["cuda_devices"].is_number_integer());
  EXPECT_TRUE(json["blas"].is_string());
  EXPECT_EQ(json.contains("warning"), json["blas"] == "reference");
}

}  // namespace
}  // namespace lockstep
