#include "common/data/dataset.h"

#include <cstring>
#include <filesystem>

#include "common/data/idx.h"
#include "tests/common/data/data_testing.h"

namespace lockstep {
namespace {

constexpr uint8_t kIdxI32 = 0x0C, kIdxF32 = 0x0D;

class DatasetTest : public FolderTest {
 protected:
  Data Config() const {
    Data data;
    data.set_path(folder_);
    return data;
  }
  absl::StatusOr<std::unique_ptr<Dataset>> Open(Split split = Split::kTrain) { return OpenDataset(Config(), split); }
  std::unique_ptr<Dataset> OpenOrFail(Split split = Split::kTrain) {
    auto dataset = Open(split);
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return dataset.ok() ? *std::move(dataset) : nullptr;
  }
  // `n` samples of 2×2 bytes: 0 1 2 3, 4 5 6 7, …; and labels n-1 … 0.
  void WriteSplit(const std::string& prefix, uint8_t n) {
    std::string images = IdxHeader(kIdxU8, {n, 2, 2}), labels = IdxHeader(kIdxU8, {n});
    for (int i = 0; i < 4 * n; ++i) images.push_back(static_cast<char>(i));
    for (int i = n - 1; i >= 0; --i) labels.push_back(static_cast<char>(i));
    Write(prefix + "-images-idx3-ubyte", images);
    Write(prefix + "-labels-idx1-ubyte", labels);
  }
};

TEST_F(DatasetTest, SamplesAreThoseOfTheFileInItsOrder) {
  WriteSplit("train", 3);
  const auto dataset = OpenOrFail();
  ASSERT_NE(dataset, nullptr);
  EXPECT_EQ(dataset->size(), 3);
  EXPECT_EQ(dataset->input().type, ElementType::kU8);
  EXPECT_EQ(dataset->input().shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(dataset->input().bytes(), 4);
  EXPECT_TRUE(dataset->target().shape.empty());
  for (int id = 0; id < 3; ++id) {
    const RawSample sample = dataset->Get(id);
    ASSERT_EQ(sample.input.size(), 4u);
    ASSERT_EQ(sample.target.size(), 1u);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(std::to_integer<int>(sample.input[i]), 4 * id + i);
    EXPECT_EQ(std::to_integer<int>(sample.target[0]), 2 - id);
  }
}

TEST_F(DatasetTest, ValidationIsValThenT10kThenTest) {
  for (const auto& [prefix, samples] : {std::pair("test", 1), std::pair("t10k", 2), std::pair("val", 3)}) {
    WriteSplit(prefix, samples);
    const auto dataset = OpenOrFail(Split::kValidation);
    ASSERT_NE(dataset, nullptr);
    EXPECT_EQ(dataset->size(), samples) << prefix;
  }
}

TEST_F(DatasetTest, OtherNamesAndGzipAreFound) {
  Write("train-inputs.idx", IdxHeader(kIdxU8, {2, 1}) + "ab");
  Write("train-targets.idx.gz", Gzip(IdxHeader(kIdxU8, {2}) + "cd"));
  const auto dataset = OpenOrFail();
  ASSERT_NE(dataset, nullptr);
  EXPECT_EQ(std::to_integer<char>(dataset->Get(1).target[0]), 'd');
}

TEST_F(DatasetTest, APlainFileIsPreferredToItsGzipAndAHalfWrittenOneIsNone) {
  WriteSplit("train", 3);
  Write("train-images-idx3-ubyte.gz", "not looked at");
  Write("train-labels-idx1-ubyte.new", "not looked at");
  EXPECT_NE(OpenOrFail(), nullptr);
}

TEST_F(DatasetTest, MissingFilesAreNamed) {
  EXPECT_EQ(Open().status(),
            absl::NotFoundError(
                folder_ + ": no training data; looked for train-images* and train-labels* (IDX, plain or gzip; also "
                          "-inputs* and -targets*); name a folder that has them, or make one: lockstep "
                          "dataset make digits"));
  EXPECT_EQ(Open(Split::kValidation).status(),
            absl::NotFoundError(folder_ +
                                ": no validation data; looked for val-images* and val-labels*, t10k-images* and "
                                "t10k-labels*, test-images* and test-labels* (IDX, plain or gzip; also -inputs* and "
                                "-targets*); name a folder that has them, or make one: lockstep dataset make "
                                "digits"));
  Write("train-labels-idx1-ubyte", "");
  EXPECT_EQ(Open().status(),
            absl::NotFoundError(folder_ + ": train-labels-idx1-ubyte has no train-images* or train-inputs* "
                                          "beside it; put the file there"));
  Data data;
  data.set_path(Path("none"));
  EXPECT_EQ(OpenDataset(data, Split::kTrain).status(),
            absl::NotFoundError(Path("none") + ": No such file or directory; name a folder with train-… and "
                                               "val-… files"));
}

TEST_F(DatasetTest, HalfASplitIsNotPassedOverForTheNext) {
  WriteSplit("t10k", 2);
  Write("val-images-idx3-ubyte", "");
  EXPECT_EQ(
      Open(Split::kValidation).status(),
      absl::NotFoundError(folder_ + ": val-images-idx3-ubyte has no val-labels* or val-targets* beside it; put the "
                                    "file there"));
}

TEST_F(DatasetTest, TwoFilesThatCouldBeMeantAreRefused) {
  WriteSplit("train", 2);
  Write("train-inputs.idx", "");
  EXPECT_EQ(Open().status(),
            absl::InvalidArgumentError(folder_ + ": both train-images-idx3-ubyte and train-inputs.idx could "
                                                 "be meant; remove or rename one of them"));
}

TEST_F(DatasetTest, InputsAndTargetsMustBeAsMany) {
  WriteSplit("train", 3);
  const std::string labels = Write("train-labels-idx1-ubyte", IdxHeader(kIdxU8, {2}) + "ab");
  EXPECT_EQ(Open().status(), absl::InvalidArgumentError(Path("train-images-idx3-ubyte") + ": byte 4: 3 samples, but " +
                                                        labels + " has 2; give two files that belong together"));
}

TEST_F(DatasetTest, SettingsThatDoNotFitTheSamplesAreRefused) {
  WriteSplit("train", 3);
  Data data = Config();
  data.add_shape(3);
  data.add_shape(2);
  EXPECT_EQ(
      OpenDataset(data, Split::kTrain).status(),
      absl::InvalidArgumentError(Path("train-images-idx3-ubyte") +
                                 ": a sample is 2×2, 4 values, but data.shape is 3×2; set data.shape to a shape of 4 "
                                 "values"));
}

TEST_F(DatasetTest, TheDigestIsOfTheSamplesAndNotOfTheirFiles) {
  WriteSplit("train", 3);
  WriteSplit("val", 2);
  const auto digest = [this] { return DataDigest(*OpenOrFail(), *OpenOrFail(Split::kValidation)); };
  const std::string first = digest();
  EXPECT_EQ(first.size(), 16u);
  Write("train-images.gz", Gzip(IdxHeader(kIdxU8, {3, 2, 2}) + Hex("000102030405060708090a0b")));
  std::filesystem::remove(Path("train-images-idx3-ubyte"));
  EXPECT_EQ(digest(), first) << "packed and under another name";
  Write("train-images.gz", Gzip(IdxHeader(kIdxU8, {3, 2, 2}) + Hex("000102030405060708090a0c")));
  EXPECT_NE(digest(), first) << "one byte of an input";
  Write("train-images.gz", Gzip(IdxHeader(kIdxU8, {3, 4}) + Hex("000102030405060708090a0b")));
  EXPECT_NE(digest(), first) << "the shape";
  Write("train-images.gz", Gzip(IdxHeader(kIdxU8, {3, 2, 2}) + Hex("000102030405060708090a0b")));
  Write("val-labels-idx1-ubyte", IdxHeader(kIdxU8, {2}) + Hex("0100").substr(0, 1) + Hex("01"));
  EXPECT_NE(digest(), first) << "one label of the other split";
}

TEST_F(DatasetTest, OutputsAreTheLargestLabelAndOneOrTheValuesOfATarget) {
  WriteSplit("train", 7);
  EXPECT_EQ(CountOutputs(*OpenOrFail()), 7);
  Write("train-labels-idx1-ubyte", IdxHeader(kIdxI32, {7}) + Hex("00000001 00000002 000003e8") + std::string(16, '\0'));
  EXPECT_EQ(CountOutputs(*OpenOrFail()), 1001);
  Write("train-labels-idx1-ubyte", IdxHeader(kIdxF32, {7, 3}) + std::string(84, '\0'));
  EXPECT_EQ(CountOutputs(*OpenOrFail()), 3);
  Write("train-labels-idx1-ubyte", IdxHeader(kIdxF32, {7}) + std::string(28, '\0'));
  EXPECT_EQ(CountOutputs(*OpenOrFail()), 1);
}

}  // namespace
}  // namespace lockstep
