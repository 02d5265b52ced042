#include "common/data/digits.h"

#include <gmock/gmock.h>
#include <xxhash.h>

#include <filesystem>
#include <memory>
#include <set>
#include <vector>

#include "common/base/file.h"
#include "common/data/dataset.h"
#include "common/data/digit_shapes.h"
#include "tests/common/data/data_testing.h"

namespace lockstep {
namespace {

class DigitsTest : public FolderTest {
 protected:
  void Make(const DigitsOptions& options, const std::string& name) {
    const absl::Status status = MakeDigits(options, Path(name));
    ASSERT_TRUE(status.ok()) << status;
  }
  std::string Content(const std::string& name) const {
    const auto data = FileSystem::Real()->Read(Path(name));
    EXPECT_TRUE(data.ok()) << data.status();
    return data.value_or("");
  }
  uint64_t Hash(const std::string& name) const {
    const std::string data = Content(name);
    return XXH3_64bits(data.data(), data.size());
  }
  std::unique_ptr<Dataset> Open(const std::string& name, Split split) const {
    Data data;
    data.set_path(Path(name));
    auto dataset = OpenDataset(data, split);
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return dataset.ok() ? *std::move(dataset) : nullptr;
  }
};

// Figures measured on these digits are compared between machines and releases.
TEST_F(DigitsTest, BytesFollowFromTheOptionsOnEveryMachine) {
  Make({100, 30, 7}, "a");
  EXPECT_EQ(Hash("a/train-images-idx3-ubyte"), 0x3277af572b730eccu);
  EXPECT_EQ(Hash("a/train-labels-idx1-ubyte"), 0xb2e52826b01d514du);
  EXPECT_EQ(Hash("a/val-images-idx3-ubyte"), 0xbbdfc14ee2f2d4d4u);
  EXPECT_EQ(Hash("a/val-labels-idx1-ubyte"), 0x91d8003f22765a2eu);
}

TEST_F(DigitsTest, TheReaderFindsThemWithAllTenClasses) {
  Make({500, 100, 1}, "a");
  const auto train = Open("a", Split::kTrain), validation = Open("a", Split::kValidation);
  ASSERT_TRUE(train != nullptr && validation != nullptr);
  EXPECT_EQ(train->size(), 500);
  EXPECT_EQ(validation->size(), 100);
  EXPECT_EQ(train->input().shape, (std::vector<int64_t>{28, 28}));
  EXPECT_EQ(CountOutputs(*train), 10);
  std::vector<int> of_class(10);
  for (int64_t id = 0; id < 500; ++id) ++of_class.at(std::to_integer<int>(train->Get(id).target[0]));
  EXPECT_THAT(of_class, testing::Each(testing::AllOf(testing::Ge(25), testing::Le(80))));
}

TEST_F(DigitsTest, AnotherSeedGivesOtherDigitsAndMoreSamplesKeepTheFirst) {
  Make({50, 10, 1}, "a");
  Make({50, 10, 2}, "b");
  Make({60, 10, 1}, "c");
  const std::string a = Content("a/train-images-idx3-ubyte"), c = Content("c/train-images-idx3-ubyte");
  EXPECT_NE(a, Content("b/train-images-idx3-ubyte"));
  EXPECT_EQ(a.substr(16), c.substr(16, 50 * 784));
}

TEST_F(DigitsTest, NoPictureIsThereTwice) {
  Make({300, 300, 1}, "a");
  std::set<std::string> seen;
  for (const char* name : {"a/train-images-idx3-ubyte", "a/val-images-idx3-ubyte"}) {
    const std::string images = Content(name);
    for (int i = 0; i < 300; ++i) seen.insert(images.substr(16 + i * 784, 784));
  }
  EXPECT_EQ(seen.size(), 600u);
}

TEST_F(DigitsTest, NumbersThatAnIdxFileCannotHoldAreRefused) {
  EXPECT_EQ(MakeDigits({0, 10, 1}, Path("a")),
            absl::InvalidArgumentError("0 training digits; ask for 1 to 4294967295"));
  EXPECT_EQ(MakeDigits({10, int64_t{1} << 32, 1}, Path("a")),
            absl::InvalidArgumentError("4294967296 validation digits; ask for 1 to 4294967295"));
  EXPECT_FALSE(std::filesystem::exists(Path("a")));
}

TEST_F(DigitsTest, AFolderThatCannotBeWrittenIsNamed) {
  Write("file", "");
  EXPECT_EQ(MakeDigits({10, 10, 1}, Path("file/a")), absl::UnavailableError(Path("file/a") + ": Not a directory"));
}

TEST(DigitShapesTest, StrokesLeadThroughPointsThatAreThere) {
  for (int digit = 0; digit < 10; ++digit) {
    ASSERT_FALSE(GlyphsOf(digit).empty());
    for (const Glyph& glyph : GlyphsOf(digit)) {
      for (const char letter : glyph.strokes) {
        EXPECT_TRUE(letter == ' ' || (letter >= 'A' && letter < static_cast<char>('A' + glyph.points.size())))
            << digit << ": " << glyph.strokes;
      }
      for (const GlyphPoint& point : glyph.points) {
        EXPECT_TRUE(point.x >= 0 && point.x <= kGlyphWidth && point.y >= 0 && point.y <= kGlyphHeight) << digit;
      }
    }
  }
}

}  // namespace
}  // namespace lockstep
