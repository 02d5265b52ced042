#include "common/data/decode.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "common/base/status.h"
#include "common/data/idx.h"

namespace lockstep {
namespace {

constexpr uint64_t kAugment = 0x6175676D656E74;  // "augment"

bool IsFloating(ElementType type) { return type == ElementType::kF32 || type == ElementType::kF64; }

// The shape in which a sample is an image: data.shape, or the file's where that has no height and width.
std::vector<int64_t> ImageShape(const Data& data, const ArraySpec& input) {
  if (data.shape_size() >= 2) return {data.shape().begin(), data.shape().end()};
  return input.shape;
}

bool IsAsIs(const Data& data) { return data.input() == INPUT_TYPE_AS_IS; }

// out[i] = raw[i]·factor + offset. The loop is simple enough to be vectorised; `raw` may lie at any address.
template <typename Raw>
void Scale(const std::byte* raw, int64_t count, float factor, float offset, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    Raw value;
    memcpy(&value, raw + i * sizeof(Raw), sizeof value);
    out[i] = static_cast<float>(value) * factor + offset;
  }
}

template <typename Raw>
void Widen(const std::byte* raw, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; ++i) {
    Raw value;
    memcpy(&value, raw + i * sizeof(Raw), sizeof value);
    out[i] = static_cast<int64_t>(value);
  }
}

void Convert(ElementType type, const std::byte* raw, int64_t count, float factor, float offset, float* out) {
  switch (type) {
    case ElementType::kU8:
      return Scale<uint8_t>(raw, count, factor, offset, out);
    case ElementType::kI8:
      return Scale<int8_t>(raw, count, factor, offset, out);
    case ElementType::kI16:
      return Scale<int16_t>(raw, count, factor, offset, out);
    case ElementType::kI32:
      return Scale<int32_t>(raw, count, factor, offset, out);
    case ElementType::kI64:
      return Scale<int64_t>(raw, count, factor, offset, out);
    case ElementType::kF32:
      return Scale<float>(raw, count, factor, offset, out);
    case ElementType::kF64:
      return Scale<double>(raw, count, factor, offset, out);
  }
}

// Of the integer types.
void Convert(ElementType type, const std::byte* raw, int64_t count, float, float, int64_t* out) {
  switch (type) {
    case ElementType::kU8:
      return Widen<uint8_t>(raw, count, out);
    case ElementType::kI8:
      return Widen<int8_t>(raw, count, out);
    case ElementType::kI16:
      return Widen<int16_t>(raw, count, out);
    case ElementType::kI32:
      return Widen<int32_t>(raw, count, out);
    case ElementType::kI64:
      return Widen<int64_t>(raw, count, out);
    case ElementType::kF32:
    case ElementType::kF64:
      return;
  }
}

}  // namespace

absl::Status CheckDecoding(const Data& data, const ArraySpec& input) {
  const int64_t asked = std::accumulate(data.shape().begin(), data.shape().end(), int64_t{1}, [](int64_t a, int64_t b) {
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? int64_t{-1} : product;
  });
  if (data.shape_size() > 0 && asked != input.elements()) {
    return absl::InvalidArgumentError(absl::StrCat("a sample is ", input.shape.empty() ? "1" : DimsText(input.shape),
                                                   ", ", input.elements(), " values, but data.shape is ",
                                                   DimsText({data.shape().begin(), data.shape().end()}),
                                                   "; set data.shape to a shape of ", input.elements(), " values"));
  }
  if ((data.augment().shift() > 0 || data.augment().flip()) && ImageShape(data, input).size() < 2) {
    return absl::InvalidArgumentError(
        "a sample has no height and width, but data.augment is to shift or flip it; set data.shape to [height, width], "
        "or "
        "leave data.augment.shift and flip out");
  }
  if (data.augment().noise() > 0 && IsAsIs(data) && !IsFloating(input.type)) {
    return absl::InvalidArgumentError(
        "values are integers and data.input is as_is, but data.augment.noise is to be added; set data.input to "
        "float32, or "
        "leave data.augment.noise out");
  }
  return absl::OkStatus();
}

Decoder::Decoder(const Data& data, const ArraySpec& input, const ArraySpec& target, uint64_t seed)
    : input_(input),
      target_(target),
      seed_(seed),
      augment_(data.augment()),
      input_is_float_(!IsAsIs(data) || IsFloating(input.type)),
      target_is_integer_(target.shape.empty() && !IsFloating(target.type)),
      input_shape_(data.shape().begin(), data.shape().end()) {
  if (input_shape_.empty()) input_shape_ = input.shape;
  const std::vector<int64_t> image = ImageShape(data, input);
  if (image.size() >= 2) {
    height_ = image[image.size() - 2];
    width_ = image[image.size() - 1];
  }
  if (IsAsIs(data)) return;
  const Normalize& normalize = data.normalize();
  const double standard = input.type == ElementType::kU8 ? 1.0 / 255 : 1.0;
  const double scale = normalize.scale() != 0 ? normalize.scale() : standard;
  const double std = normalize.std() != 0 ? normalize.std() : 1.0;
  factor_ = static_cast<float>(scale / std);
  offset_ = static_cast<float>(-normalize.mean() / std);
}

template <typename Out>
void Decoder::Move(StableRandom* random, Out* out) const {
  const int64_t shift = augment_.shift();
  const int64_t down = shift > 0 ? static_cast<int64_t>(random->Below(2 * shift + 1)) - shift : 0;
  const int64_t right = shift > 0 ? static_cast<int64_t>(random->Below(2 * shift + 1)) - shift : 0;
  const bool mirror = augment_.flip() && random->Below(2) == 1;
  const Out blank = input_is_float_ ? static_cast<Out>(offset_) : Out{0};
  const std::vector<Out> from(out, out + input_elements());
  for (int64_t row = 0; row < input_elements() / width_; ++row) {
    const int64_t y = row % height_ - down;
    for (int64_t column = 0; column < width_; ++column) {
      const int64_t moved = column - right, x = mirror ? width_ - 1 - moved : moved;
      const bool inside = y >= 0 && y < height_ && x >= 0 && x < width_;
      out[row * width_ + column] = inside ? from[(row - down) * width_ + x] : blank;
    }
  }
}

template <typename Out>
void Decoder::DecodeImage(const std::byte* raw, int64_t id, int32_t epoch, bool augment, Out* out) const {
  Convert(input_.type, raw, input_elements(), factor_, offset_, out);
  if (!augment) return;
  StableRandom random(Mix({kAugment, seed_, static_cast<uint64_t>(epoch), static_cast<uint64_t>(id)}));
  if (augment_.shift() > 0 || augment_.flip()) Move(&random, out);
  if (augment_.noise() > 0) {
    for (Out* value = out; value < out + input_elements(); ++value) {
      *value += static_cast<Out>(augment_.noise() * random.Normal());
    }
  }
}

void Decoder::DecodeInput(const RawSample& sample, int64_t id, int32_t epoch, bool augment, void* out) const {
  if (input_is_float_) {
    DecodeImage(sample.input.data(), id, epoch, augment, static_cast<float*>(out));
  } else {
    DecodeImage(sample.input.data(), id, epoch, augment, static_cast<int64_t*>(out));
  }
}

void Decoder::DecodeTarget(const RawSample& sample, void* out) const {
  const std::byte* raw = sample.target.data();
  if (target_is_integer_) {
    Convert(target_.type, raw, 1, 1, 0, static_cast<int64_t*>(out));
  } else {
    Convert(target_.type, raw, target_elements(), 1, 0, static_cast<float*>(out));
  }
}

}  // namespace lockstep
