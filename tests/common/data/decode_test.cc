#include "common/data/decode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>
#include <type_traits>
#include <vector>

namespace lockstep {
namespace {

constexpr uint64_t kSeed = 42;
const ArraySpec kLabel{ElementType::kU8, {}};

template <typename T>
absl::Span<const std::byte> Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(T)};
}

template <typename T>
std::vector<T> Ramp(int64_t count) {
  std::vector<T> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<T>(std::is_signed_v<T> ? 3 * i - 100 : 3 * i);
  return values;
}

template <typename T>
std::vector<float> Floats(const Decoder& decoder, const std::vector<T>& raw, int64_t id = 0, int32_t epoch = 0,
                          bool augment = false) {
  std::vector<float> out(decoder.input_elements());
  decoder.DecodeInput({Bytes(raw), {}}, id, epoch, augment, out.data());
  return out;
}

template <typename T>
void ExpectNormalized(ElementType type, double standard_scale) {
  Data data;
  data.mutable_normalize()->set_mean(0.25);
  data.mutable_normalize()->set_std(0.5);
  const std::vector<T> raw = Ramp<T>(35);
  for (const double scale : {0.0, 0.125}) {
    data.mutable_normalize()->set_scale(scale);
    const std::vector<float> out = Floats(Decoder(data, {type, {5, 7}}, kLabel, kSeed), raw);
    for (size_t i = 0; i < raw.size(); ++i) {
      const double expected = (static_cast<double>(raw[i]) * (scale == 0 ? standard_scale : scale) - 0.25) / 0.5;
      ASSERT_NEAR(out[i], expected, 1e-6 * (1 + std::abs(expected)))
          << "type " << static_cast<int>(type) << ", value " << i;
    }
  }
}

TEST(DecodeTest, EveryTypeIsScaledAndNormalized) {
  ExpectNormalized<uint8_t>(ElementType::kU8, 1.0 / 255);
  ExpectNormalized<int8_t>(ElementType::kI8, 1);
  ExpectNormalized<int16_t>(ElementType::kI16, 1);
  ExpectNormalized<int32_t>(ElementType::kI32, 1);
  ExpectNormalized<int64_t>(ElementType::kI64, 1);
  ExpectNormalized<float>(ElementType::kF32, 1);
  ExpectNormalized<double>(ElementType::kF64, 1);
}

TEST(DecodeTest, EmptySettingsLeaveNumbersAndMapBytesToZeroToOne) {
  const std::vector<uint8_t> bytes = {0, 51, 255};
  const std::vector<float> scaled = Floats(Decoder(Data(), {ElementType::kU8, {3}}, kLabel, kSeed), bytes);
  EXPECT_EQ(scaled[0], 0);
  EXPECT_FLOAT_EQ(scaled[1], 0.2f);
  EXPECT_EQ(scaled[2], 1);
  const std::vector<int32_t> numbers = {-7, 0, 1 << 20};
  EXPECT_EQ(Floats(Decoder(Data(), {ElementType::kI32, {3}}, kLabel, kSeed), numbers),
            (std::vector<float>{-7, 0, 1 << 20}));
}

TEST(DecodeTest, AsIsHandsIntegersOnAsInt64AndIgnoresNormalisation) {
  Data data;
  data.set_input(INPUT_TYPE_AS_IS);
  data.mutable_normalize()->set_mean(5);
  const Decoder decoder(data, {ElementType::kI16, {3}}, kLabel, kSeed);
  EXPECT_FALSE(decoder.input_is_float());
  const std::vector<int16_t> raw = {-7, 0, 32767};
  std::vector<int64_t> out(3);
  decoder.DecodeInput({Bytes(raw), {}}, 0, 0, true, out.data());
  EXPECT_EQ(out, (std::vector<int64_t>{-7, 0, 32767}));

  const Decoder floats(data, {ElementType::kF64, {1}}, kLabel, kSeed);
  EXPECT_TRUE(floats.input_is_float());
  EXPECT_EQ(Floats(floats, std::vector<double>{2.5}), std::vector<float>{2.5f});
}

TEST(DecodeTest, ShapeIsTheConfigsElseTheFiles) {
  Data data;
  EXPECT_EQ(Decoder(data, {ElementType::kU8, {28, 28}}, kLabel, kSeed).input_shape(), (std::vector<int64_t>{28, 28}));
  for (int64_t dim : {1, 28, 28}) data.add_shape(dim);
  EXPECT_EQ(Decoder(data, {ElementType::kU8, {28, 28}}, kLabel, kSeed).input_shape(),
            (std::vector<int64_t>{1, 28, 28}));
}

TEST(DecodeTest, LabelsBecomeInt64AndOtherTargetsFloat) {
  const ArraySpec input{ElementType::kU8, {1}};
  const std::vector<int32_t> label = {-5};
  int64_t integer = 0;
  const Decoder labels(Data(), input, {ElementType::kI32, {}}, kSeed);
  EXPECT_TRUE(labels.target_is_integer());
  labels.DecodeTarget({{}, Bytes(label)}, &integer);
  EXPECT_EQ(integer, -5);

  const std::vector<double> two = {0.5, -1.5};
  std::vector<float> values(2);
  const Decoder regression(Data(), input, {ElementType::kF64, {2}}, kSeed);
  EXPECT_FALSE(regression.target_is_integer());
  regression.DecodeTarget({{}, Bytes(two)}, values.data());
  EXPECT_EQ(values, (std::vector<float>{0.5f, -1.5f}));

  const std::vector<uint8_t> bits = {1, 200};  // raw: a target is never normalised
  Decoder(Data(), input, {ElementType::kU8, {2}}, kSeed).DecodeTarget({{}, Bytes(bits)}, values.data());
  EXPECT_EQ(values, (std::vector<float>{1, 200}));
}

class AugmentTest : public testing::Test {
 protected:
  static constexpr int64_t kHeight = 5, kWidth = 7;
  AugmentTest() { data_.mutable_normalize()->set_mean(0.5); }
  Decoder Make(uint64_t seed = kSeed) const {
    return Decoder(data_, {ElementType::kU8, {kHeight, kWidth}}, kLabel, seed);
  }

  Data data_;
  const std::vector<uint8_t> raw_ = Ramp<uint8_t>(kHeight * kWidth);
};

// The image moved down and to the right, after mirroring it.
std::vector<float> Moved(const std::vector<float>& image, int height, int width, int down, int right, bool mirror,
                         float blank) {
  std::vector<float> out(image.size(), blank);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const int to_y = y + down, to_x = (mirror ? width - 1 - x : x) + right;
      if (to_y < 0 || to_y >= height || to_x < 0 || to_x >= width) continue;
      out[to_y * width + to_x] = image[y * width + x];
    }
  }
  return out;
}

TEST_F(AugmentTest, EveryShiftAndMirrorImageComesUpAndNothingElse) {
  data_.mutable_augment()->set_shift(2);
  data_.mutable_augment()->set_flip(true);
  const Decoder decoder = Make();
  const std::vector<float> plain = Floats(decoder, raw_);
  std::set<std::vector<float>> possible, seen;
  for (int down = -2; down <= 2; ++down) {
    for (int right = -2; right <= 2; ++right) {
      for (const bool mirror : {false, true})
        possible.insert(Moved(plain, kHeight, kWidth, down, right, mirror, -0.5f));
    }
  }
  ASSERT_EQ(possible.size(), 50u);
  for (int64_t id = 0; id < 1000; ++id) seen.insert(Floats(decoder, raw_, id, 3, true));
  EXPECT_EQ(seen, possible);
}

TEST_F(AugmentTest, AShiftFartherThanThePictureLeavesNothing) {
  data_.mutable_augment()->set_shift(1024);
  const Decoder decoder = Make();
  const std::vector<float> blank(kHeight * kWidth, -0.5f);
  EXPECT_EQ(Floats(decoder, raw_, 1, 0, true), blank);
}

TEST_F(AugmentTest, ChannelsAreMovedAlike) {
  data_.mutable_augment()->set_shift(1);
  data_.mutable_augment()->set_flip(true);
  const Decoder decoder(data_, {ElementType::kU8, {2, kHeight, kWidth}}, kLabel, kSeed);
  std::vector<uint8_t> both = raw_;
  both.insert(both.end(), raw_.begin(), raw_.end());
  for (int64_t id = 0; id < 50; ++id) {
    const std::vector<float> out = Floats(decoder, both, id, 0, true);
    ASSERT_TRUE(std::equal(out.begin(), out.begin() + kHeight * kWidth, out.begin() + kHeight * kWidth)) << id;
  }
}

TEST_F(AugmentTest, FollowsFromSeedEpochAndIdInWhateverOrderAndByWhomever) {
  data_.mutable_augment()->set_shift(2);
  data_.mutable_augment()->set_noise(0.1);
  const Decoder decoder = Make(), another = Make(), other_seed = Make(kSeed + 1);
  std::vector<std::vector<float>> forwards;
  for (int64_t id = 0; id < 20; ++id) forwards.push_back(Floats(decoder, raw_, id, 1, true));
  for (int64_t id = 19; id >= 0; --id) {
    EXPECT_EQ(Floats(another, raw_, id, 1, true), forwards[id]);
    EXPECT_NE(Floats(decoder, raw_, id, 2, true), forwards[id]);
    EXPECT_NE(Floats(decoder, raw_, id + 1, 1, true), forwards[id]);
    EXPECT_NE(Floats(other_seed, raw_, id, 1, true), forwards[id]);
  }
}

TEST_F(AugmentTest, IsLeftOutUnlessAskedFor) {
  data_.mutable_augment()->set_shift(2);
  data_.mutable_augment()->set_noise(1);
  const std::vector<float> plain = Floats(Make(), raw_);
  data_.clear_augment();
  EXPECT_EQ(plain, Floats(Make(), raw_, 5, 5, true));
}

TEST_F(AugmentTest, NoiseHasTheStandardDeviationAskedFor) {
  data_.mutable_augment()->set_noise(0.25);
  const Decoder decoder = Make();
  const std::vector<float> plain = Floats(decoder, raw_);
  double sum = 0, squares = 0;
  int count = 0;
  for (int64_t id = 0; id < 300; ++id) {
    const std::vector<float> noisy = Floats(decoder, raw_, id, 0, true);
    for (size_t i = 0; i < plain.size(); ++i, ++count) {
      sum += noisy[i] - plain[i];
      squares += (noisy[i] - plain[i]) * (noisy[i] - plain[i]);
    }
  }
  EXPECT_NEAR(sum / count, 0, 0.012);
  EXPECT_NEAR(squares / count, 0.0625, 0.004);
}

TEST(CheckDecodingTest, RefusesWhatSamplesDoNotAllow) {
  const ArraySpec image{ElementType::kU8, {28, 28}}, row{ElementType::kU8, {784}};
  Data data;
  EXPECT_TRUE(CheckDecoding(data, row).ok());
  data.mutable_augment()->set_flip(true);
  EXPECT_TRUE(CheckDecoding(data, image).ok());
  EXPECT_EQ(CheckDecoding(data, row).message(),
            "a sample has no height and width, but data.augment is to shift or flip it; set data.shape to [height, "
            "width], or "
            "leave data.augment.shift and flip out");
  data.add_shape(28);
  data.add_shape(28);
  EXPECT_TRUE(CheckDecoding(data, row).ok());
  data.set_shape(0, int64_t{1} << 30);
  for (int i = 0; i < 3; ++i) data.add_shape(int64_t{1} << 30);
  EXPECT_FALSE(CheckDecoding(data, row).ok()) << "the product does not fit";

  Data noisy;
  noisy.set_input(INPUT_TYPE_AS_IS);
  noisy.mutable_augment()->set_noise(1);
  EXPECT_TRUE(CheckDecoding(noisy, {ElementType::kF32, {784}}).ok());
  EXPECT_EQ(
      CheckDecoding(noisy, row).message(),
      "values are integers and data.input is as_is, but data.augment.noise is to be added; set data.input to float32, "
      "or leave data.augment.noise out");
}

}  // namespace
}  // namespace lockstep
