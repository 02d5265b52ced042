#include "common/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/stable_random.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

CheckpointState StateAt(int64_t step) {
  CheckpointState state;
  state.set_schema_version(1);
  state.mutable_cursor()->set_step(step);
  return state;
}

class CheckpointTest : public testing::Test {
 protected:
  void Write(int64_t step, const std::string& model = "weights") {
    auto writer = CheckpointWriter::Create(files_, folder_.path(), step);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE((*writer)->AddFile(kModelFile, model).ok());
    ASSERT_TRUE((*writer)->AddFile(kOptimizerFile, "").ok());
    ASSERT_TRUE((*writer)->AddFile(kStateFile, CheckpointStateToJson(StateAt(step))).ok());
    const auto committed = (*writer)->Commit();
    ASSERT_TRUE(committed.ok()) << committed.status();
  }
  std::string At(int64_t step) const { return folder_ / CheckpointName(step); }
  std::string Read(const std::string& path) { return files_->Read(path).value_or("missing"); }
  // Puts `to` for `from` in a file of step 7's checkpoint and says what verification thinks of it.
  std::string AfterChange(const std::string& name, const std::string& from, const std::string& to) {
    Write(7);
    const std::string path = At(7) + "/" + name, before = Read(path);
    const std::string after = from.empty() ? to : absl::StrReplaceAll(before, {{from, to}});
    EXPECT_NE(before, after);
    folder_.Write(CheckpointName(7) + "/" + name, after);
    const auto verified = VerifyCheckpoint(files_, At(7));
    EXPECT_EQ(verified.status().code(), absl::StatusCode::kDataLoss) << verified.status();
    return absl::StrReplaceAll(verified.status().message(), {{At(7), "STEP"}});
  }

  FileSystem* const files_ = FileSystem::Real();
  const TempFolder folder_;
};

TEST_F(CheckpointTest, NamesAreEightDigitsOrMore) {
  EXPECT_EQ(CheckpointName(1234), "step-00001234");
  EXPECT_EQ(CheckpointName(123456789), "step-123456789");
  for (const int64_t step : {int64_t{0}, int64_t{99999999}, int64_t{100000000}, std::numeric_limits<int64_t>::max()}) {
    EXPECT_EQ(StepOfCheckpointName(CheckpointName(step)), step);
  }
  for (const char* name : {"", "step-", "step-1", "step-000000001", "step-0000123x", "step--0000001", "Step-00000001",
                           "step-00000001.tmp", ".step-00000001", "step-99999999999999999999", "step- 0000001"}) {
    EXPECT_EQ(StepOfCheckpointName(name), -1) << name;
  }
}

TEST_F(CheckpointTest, HoldsWhatWasWrittenAndVerifies) {
  auto writer = CheckpointWriter::Create(files_, folder_ / "run/checkpoints", 12);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->BeginFile(kModelFile).ok());
  ASSERT_TRUE((*writer)->Append("wei").ok());
  ASSERT_TRUE((*writer)->Append("ghts").ok());
  ASSERT_TRUE((*writer)->BeginFile(kOptimizerFile).ok());
  ASSERT_TRUE((*writer)->AddFile(kStateFile, CheckpointStateToJson(StateAt(12))).ok());
  EXPECT_THAT(ListCheckpoints(files_, folder_ / "run/checkpoints"), IsEmpty()) << "not before Commit";
  const auto committed = (*writer)->Commit();
  ASSERT_TRUE(committed.ok()) << committed.status();
  const std::string folder = folder_ / "run/checkpoints/step-00000012";
  EXPECT_EQ(committed->folder, folder);
  EXPECT_EQ(Read(folder + "/model.safetensors"), "weights");
  const auto manifest = VerifyCheckpoint(files_, folder);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->step(), 12);
  ASSERT_EQ(manifest->files_size(), 3);
  EXPECT_EQ(manifest->files(0).bytes(), 7);
  EXPECT_EQ(manifest->files(1).xxh3(), "2d06800538d394c2") << "XXH3 of nothing, as its specification has it";
  int64_t bytes = 0;
  for (const char* name : {kModelFile, kOptimizerFile, kStateFile, kManifestFile})
    bytes += Read(folder + "/" + name).size();
  EXPECT_EQ(committed->bytes, bytes);
}

TEST_F(CheckpointTest, StatesOfTheRanksAreAFileThatMayBeThere) {
  auto writer = CheckpointWriter::Create(files_, folder_.path(), 4);
  ASSERT_TRUE(writer.ok());
  for (const char* name : {kModelFile, kOptimizerFile, kRanksFile}) ASSERT_TRUE((*writer)->AddFile(name, "x").ok());
  ASSERT_TRUE((*writer)->AddFile(kStateFile, CheckpointStateToJson(StateAt(4))).ok());
  const auto committed = (*writer)->Commit();
  ASSERT_TRUE(committed.ok()) << committed.status();
  EXPECT_EQ(VerifyCheckpoint(files_, At(4))->files_size(), 4);
  folder_.Write("step-00000004/ranks.safetensors", "y");
  EXPECT_FALSE(VerifyCheckpoint(files_, At(4)).ok());
}

TEST_F(CheckpointTest, NothingStaysOfAWriterThatDidNotCommit) {
  {
    auto writer = CheckpointWriter::Create(files_, folder_.path(), 3);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->AddFile(kModelFile, "x").ok());
    ASSERT_TRUE((*writer)->BeginFile(kOptimizerFile).ok());
  }
  EXPECT_THAT(*files_->List(folder_.path()), IsEmpty());
}

TEST_F(CheckpointTest, TheWriterRefusesWhatIsNoCheckpoint) {
  EXPECT_EQ(CheckpointWriter::Create(files_, folder_.path(), -1).status().message(),
            "a checkpoint of step -1: steps begin at 0");
  for (const char* name : {"../model.safetensors", "/etc/passwd", "MANIFEST.json", "", "model.safetensors/x"}) {
    auto writer = CheckpointWriter::Create(files_, folder_.path(), 1);
    EXPECT_EQ((*writer)->BeginFile(name).message(),
              absl::StrCat("a checkpoint holds no file '", name,
                           "', only model.safetensors, optimizer.safetensors, ranks.safetensors and state.json"));
    EXPECT_FALSE((*writer)->AddFile(kModelFile, "").ok()) << "after a failure all fails";
  }
  const auto error = [&](const std::function<absl::Status(CheckpointWriter*)>& use) {
    auto writer = CheckpointWriter::Create(files_, folder_.path(), 1);
    EXPECT_TRUE((*writer)->AddFile(kModelFile, "").ok());
    return std::string(use(writer->get()).message());
  };
  EXPECT_EQ(error([](CheckpointWriter* writer) { return writer->BeginFile(kModelFile); }),
            "the checkpoint of step 1 has its model.safetensors already");
  EXPECT_EQ(error([](CheckpointWriter* writer) { return writer->Append("x"); }), "Append before BeginFile");
  EXPECT_EQ(error([](CheckpointWriter* writer) { return writer->Commit().status(); }),
            "MANIFEST.json: does not name optimizer.safetensors");
}

TEST_F(CheckpointTest, AStepIsReplacedWhole) {
  Write(5, "first");
  folder_.Write("step-00000005/extra", "x");
  Write(5, "second");
  EXPECT_THAT(*files_->List(folder_.path()), ElementsAre("step-00000005"));
  EXPECT_EQ(Read(At(5) + "/model.safetensors"), "second");
  EXPECT_FALSE(files_->Exists(At(5) + "/extra"));
}

TEST_F(CheckpointTest, VerificationNamesTheFileAndWhatDiffers) {
  EXPECT_EQ(
      AfterChange(kModelFile, "weights", "weightz"),
      "STEP/model.safetensors: XXH3 is 142ac584b8baa214, the manifest says 06cc94573ff53c71; the content has changed "
      "since it was written");
}

TEST_F(CheckpointTest, VerificationFindsEveryChange) {
  EXPECT_EQ(AfterChange(kModelFile, "weights", "weight"), "STEP/model.safetensors: has 6 bytes, the manifest says 7");
  EXPECT_EQ(AfterChange(kModelFile, "weights", "weights!"),
            "STEP/model.safetensors: has more than the 7 bytes of the manifest");
  EXPECT_EQ(AfterChange(kModelFile, "weights", std::string(200000, 'x')),
            "STEP/model.safetensors: has more than the 7 bytes of the manifest");
  EXPECT_EQ(AfterChange(kManifestFile, "\"step\": \"7\"", "\"step\": \"8\""), "STEP: the manifest is of step 8");
  EXPECT_EQ(AfterChange(kManifestFile, "\"schema_version\": 1", "\"schema_version\": 2"),
            "STEP: MANIFEST.json: schema_version is 2, this version reads 1");
  EXPECT_EQ(AfterChange(kManifestFile, "\"step\": \"7\"", "\"step\": \"-7\""), "STEP: MANIFEST.json: step is -7");
  EXPECT_EQ(AfterChange(kManifestFile, "model.safetensors", "../../../etc/passwd"),
            "STEP: MANIFEST.json: names '../../../etc/passwd', which is no file of a checkpoint");
  EXPECT_EQ(AfterChange(kManifestFile, "model.safetensors", "state.json"),
            "STEP: MANIFEST.json: names 'state.json' twice");
  EXPECT_EQ(AfterChange(kManifestFile, "\"bytes\": \"7\"", "\"bytes\": \"-7\""),
            "STEP: MANIFEST.json: gives 'model.safetensors' -7 bytes");
  EXPECT_EQ(AfterChange(kManifestFile, "2d06800538d394c2", "2d06800538d394c"),
            "STEP: MANIFEST.json: gives 'optimizer.safetensors' no XXH3 of 16 digits");
  EXPECT_THAT(AfterChange(kManifestFile, "", std::string(100000, '[')), testing::StartsWith("STEP/MANIFEST.json: "));
  EXPECT_THAT(AfterChange(kManifestFile, "", ""), testing::StartsWith("STEP/MANIFEST.json: "));
  EXPECT_THAT(AfterChange(kManifestFile, "", std::string(3 << 20, ' ')),
              testing::StartsWith("STEP/MANIFEST.json: larger than 1048576 bytes"));
  Write(7);
  ASSERT_TRUE(files_->RemoveAll(At(7) + "/" + kOptimizerFile).ok());
  EXPECT_EQ(VerifyCheckpoint(files_, At(7)).status(),
            absl::DataLossError(absl::StrCat(At(7), "/optimizer.safetensors: No such file or directory")));
  ASSERT_TRUE(files_->RemoveAll(At(7) + "/" + kManifestFile).ok());
  EXPECT_EQ(VerifyCheckpoint(files_, At(7)).status(),
            absl::DataLossError(absl::StrCat(At(7), "/MANIFEST.json: No such file or directory")));
  EXPECT_THAT(ListCheckpoints(files_, folder_.path()), IsEmpty());
  EXPECT_EQ(VerifyCheckpoint(files_, At(8)).status(), absl::NotFoundError(absl::StrCat(At(8), ": no such checkpoint")));
}

TEST_F(CheckpointTest, TheNewestThatIsWholeIsFound) {
  EXPECT_EQ(FindLastCheckpoint(files_, folder_ / "none").status(),
            absl::NotFoundError(absl::StrCat(folder_ / "none", ": no checkpoint")));
  for (const int64_t step : {int64_t{0}, int64_t{20}, int64_t{100000000}, int64_t{3}}) Write(step);
  folder_.Write("step-99999999", "a file");
  folder_.Write("notes/x", "");
  EXPECT_THAT(ListCheckpoints(files_, folder_.path()), ElementsAre(0, 3, 20, 100000000));
  folder_.Write("step-100000000/model.safetensors", "other");
  auto found = FindLastCheckpoint(files_, folder_.path());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->folder, At(20));
  EXPECT_EQ(found->state.cursor().step(), 20);
  EXPECT_EQ(found->manifest.step(), 20);
  EXPECT_THAT(found->passed_over,
              ElementsAre(absl::StrCat(At(100000000), "/model.safetensors: has 5 bytes, the manifest says 7"),
                          absl::StrCat(At(99999999), "/MANIFEST.json: Not a directory")));
}

TEST_F(CheckpointTest, AStateOfAnotherStepIsNotWhole) {
  auto writer = CheckpointWriter::Create(files_, folder_.path(), 9);
  for (const char* name : {kModelFile, kOptimizerFile}) ASSERT_TRUE((*writer)->AddFile(name, "").ok());
  ASSERT_TRUE((*writer)->AddFile(kStateFile, CheckpointStateToJson(StateAt(8))).ok());
  ASSERT_TRUE((*writer)->Commit().ok());
  EXPECT_EQ(
      FindLastCheckpoint(files_, folder_.path()).status().message(),
      absl::StrCat(folder_.path(), ": no checkpoint is whole: ", At(9), ": holds step 8, not the step of its name"));
}

TEST_F(CheckpointTest, LinksPointAtCheckpointsAlone) {
  Write(1);
  Write(2);
  ASSERT_TRUE(PointLink(files_, folder_.path(), "latest", 1).ok());
  ASSERT_TRUE(PointLink(files_, folder_.path(), "latest", 2).ok());
  EXPECT_EQ(std::filesystem::read_symlink(folder_ / "latest"), "step-00000002") << "relative: the run can be copied";
  EXPECT_EQ(VerifyCheckpoint(files_, folder_ / "latest")->step(), 2);
  EXPECT_EQ(PointLink(files_, folder_.path(), "latest", 3).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(PointLink(files_, folder_.path(), "../latest", 1).message(),
            "a link to a checkpoint is latest or best, not '../latest'");
}

TEST_F(CheckpointTest, PruningKeepsTheLastTheLinkedAndNoLitter) {
  for (int64_t step = 1; step <= 6; ++step) Write(step);
  ASSERT_TRUE(PointLink(files_, folder_.path(), "latest", 6).ok());
  ASSERT_TRUE(PointLink(files_, folder_.path(), "best", 2).ok());
  folder_.Write(".step-00000009.tmp/model.safetensors", "x");
  folder_.Write(".step-00000003.gone/model.safetensors", "x");
  folder_.Write(".step-00000004.old/model.safetensors", "x");
  folder_.Write("notes", "mine");
  ASSERT_TRUE(PruneCheckpoints(files_, folder_.path(), 0).ok());
  EXPECT_EQ(ListCheckpoints(files_, folder_.path()).size(), 6);
  ASSERT_TRUE(PruneCheckpoints(files_, folder_.path(), 3).ok());
  EXPECT_THAT(*files_->List(folder_.path()), ElementsAre("best", "latest", "notes", "step-00000002", "step-00000004",
                                                         "step-00000005", "step-00000006"));
  ASSERT_TRUE(PruneCheckpoints(files_, folder_.path(), 1).ok());
  EXPECT_THAT(ListCheckpoints(files_, folder_.path()), ElementsAre(2, 6));
  folder_.Write("step-00000002/MANIFEST.json", "{");
  Write(7);
  EXPECT_EQ(PruneCheckpoints(files_, folder_.path(), 1).code(), absl::StatusCode::kDataLoss)
      << "what best points at is not known, so nothing is removed";
  EXPECT_THAT(ListCheckpoints(files_, folder_.path()), ElementsAre(2, 6, 7));
}

TEST_F(CheckpointTest, AReplacementThatACrashBrokeOffIsUndone) {
  Write(4, "old");
  ASSERT_TRUE(files_->Rename(At(4), folder_ / ".step-00000004.old").ok());
  auto found = FindLastCheckpoint(files_, folder_.path());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->folder, folder_ / ".step-00000004.old");
  ASSERT_TRUE(CheckpointWriter::Create(files_, folder_.path(), 4).ok());
  EXPECT_EQ(FindLastCheckpoint(files_, folder_.path())->folder, At(4));
}

bool SameBits(double a, double b) { return (std::isnan(a) && std::isnan(b)) || memcmp(&a, &b, sizeof(a)) == 0; }

TEST_F(CheckpointTest, StateComesBackBitForBit) {
  StableRandom random(Mix({5}));
  std::vector<double> values = {0.0,
                                1.0 / 3,
                                5e-324,
                                2.2250738585072014e-308,
                                std::numeric_limits<double>::max(),
                                -1e22,
                                1e22,
                                123456789012345680.0,
                                std::numeric_limits<double>::infinity(),
                                -std::numeric_limits<double>::infinity(),
                                std::numeric_limits<double>::quiet_NaN()};
  while (values.size() < 2000) {
    const uint64_t bits = random.Next64();
    double value;
    memcpy(&value, &bits, sizeof(value));
    if (std::isfinite(value)) values.push_back(value);
  }
  CheckpointState state = StateAt(77);
  state.set_seed(std::numeric_limits<uint64_t>::max());
  state.mutable_cursor()->set_fingerprint(0x8000000000000001u);
  state.set_best_step(-1);
  state.set_config_digest("é\"\\\n");
  for (const double value : values) {
    auto* evaluation = state.add_evaluations();
    (*evaluation->mutable_metrics())["other"] = -value;
    (*evaluation->mutable_metrics())["loss"] = value;
  }
  folder_.Write("state.json", CheckpointStateToJson(state));
  const auto back = ReadCheckpointState(files_, folder_.path());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->seed(), state.seed());
  EXPECT_EQ(back->cursor().fingerprint(), state.cursor().fingerprint());
  EXPECT_EQ(back->best_step(), -1);
  EXPECT_EQ(back->config_digest(), state.config_digest());
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_TRUE(SameBits(back->evaluations(i).metrics().at("loss"), values[i])) << values[i];
  }
}

TEST_F(CheckpointTest, EqualStatesHaveEqualBytesAlsoAfterReading) {
  CheckpointState state = StateAt(3);
  state.set_best_value(-0.0);
  auto* metrics = state.add_evaluations()->mutable_metrics();
  for (const char* name : {"top5", "accuracy", "perplexity", "loss", "mae"}) (*metrics)[name] = -0.0;
  const std::string json = CheckpointStateToJson(state);
  size_t at = 0;
  for (const char* name : {"accuracy", "loss", "mae", "perplexity", "top5"}) {
    const size_t found = json.find(absl::StrCat("\"", name, "\""));
    EXPECT_LT(at, found) << json;
    at = found;
  }
  folder_.Write("state.json", json);
  const auto back = ReadCheckpointState(files_, folder_.path());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(CheckpointStateToJson(*back), json);
}

TEST_F(CheckpointTest, EveryFieldOfAStateIsWrittenUnderItsOwnName) {
  const std::string json = CheckpointStateToJson(CheckpointState());
  for (const char* name : {"schema_version", "seed", "global_batch_size", "config_digest", "best_step", "best_value"}) {
    EXPECT_NE(json.find(absl::StrCat("\"", name, "\"")), std::string::npos) << json;
  }
}

TEST_F(CheckpointTest, AStateThatIsNoneIsDataLoss) {
  const auto error = [&](const std::string& json) {
    folder_.Write("state.json", json);
    const auto state = ReadCheckpointState(files_, folder_.path());
    EXPECT_EQ(state.status().code(), absl::StatusCode::kDataLoss) << json.substr(0, 100);
    const std::string message = absl::StrReplaceAll(state.status().message(), {{folder_.path(), "STEP"}});
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  };
  EXPECT_EQ(error("{\"schema_version\": 2}"),
            "STEP/state.json: schema_version is 2, this version reads 1; use the release that wrote it");
  for (const std::string& json :
       {std::string(), std::string("{"), std::string("[]"), std::string("{\"cursor\": 5}"),
        std::string("{\"nothing\": 5}"), std::string("{\"seed\": -1}"), std::string("{\"seed\": \"a\nb\"}"),
        std::string(100000, '['), "{\"cursor\":" + std::string(100000, '{'), std::string("\xff\xfe\0", 3)}) {
    EXPECT_THAT(error(json), testing::StartsWith("STEP/state.json: "));
  }
}

TEST_F(CheckpointTest, BrokenManifestsAndStatesNeverVerify) {
  Write(7);
  const std::string manifest = Read(At(7) + "/" + kManifestFile);
  StableRandom random(Mix({9}));
  for (int i = 0; i < 1500; ++i) {
    std::string broken = manifest;
    for (uint64_t changes = 1 + random.Below(3); changes > 0; --changes) {
      const size_t at = random.Below(broken.size());
      if (random.Below(2) == 0)
        broken[at] = static_cast<char>(random.Below(256));
      else
        broken.erase(at, 1 + random.Below(30));
      if (broken.empty()) broken = " ";
    }
    folder_.Write(CheckpointName(7) + "/" + kManifestFile, broken);
    const auto verified = VerifyCheckpoint(files_, At(7));
    if (verified.ok()) {  // white space, or a digit's case
      ASSERT_EQ(verified->files_size(), 3);
      ASSERT_EQ(verified->step(), 7);
      continue;
    }
    ASSERT_EQ(verified.status().code(), absl::StatusCode::kDataLoss) << broken;
    ASSERT_EQ(verified.status().message().find('\n'), absl::string_view::npos) << verified.status();
  }
}

}  // namespace
}  // namespace lockstep
