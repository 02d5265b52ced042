#include "coordinator/cli/sample_picture.h"

#include <algorithm>
#include <cstring>

namespace lockstep {
namespace {

constexpr char kShades[] = " .:-=+*#%@";
constexpr int64_t kMaxColumns = 100;

template <typename T>
double Load(absl::Span<const std::byte> array, int64_t index) {
  T value;
  std::memcpy(&value, array.data() + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return static_cast<double>(value);
}

}  // namespace

const char* ElementTypeName(ElementType type) {
  switch (type) {
    case ElementType::kU8:
      return "uint8";
    case ElementType::kI8:
      return "int8";
    case ElementType::kI16:
      return "int16";
    case ElementType::kI32:
      return "int32";
    case ElementType::kI64:
      return "int64";
    case ElementType::kF32:
      return "float32";
    case ElementType::kF64:
      return "float64";
  }
  return "?";
}

bool IsFloating(ElementType type) { return type == ElementType::kF32 || type == ElementType::kF64; }

double ElementAt(ElementType type, absl::Span<const std::byte> array, int64_t index) {
  switch (type) {
    case ElementType::kU8:
      return Load<uint8_t>(array, index);
    case ElementType::kI8:
      return Load<int8_t>(array, index);
    case ElementType::kI16:
      return Load<int16_t>(array, index);
    case ElementType::kI32:
      return Load<int32_t>(array, index);
    case ElementType::kI64:
      return Load<int64_t>(array, index);
    case ElementType::kF32:
      return Load<float>(array, index);
    case ElementType::kF64:
      return Load<double>(array, index);
  }
  return 0;
}

std::string SamplePicture(const ArraySpec& spec, absl::Span<const std::byte> array) {
  std::vector<int64_t> shape = spec.shape;
  if (shape.size() == 3 && shape[0] == 1) shape.erase(shape.begin());
  if (shape.size() != 2 || shape[0] < 2 || shape[1] < 2 || shape[1] > kMaxColumns) return "";
  double least = ElementAt(spec.type, array, 0), most = least;
  for (int64_t i = 0; i < spec.elements(); ++i) {
    least = std::min(least, ElementAt(spec.type, array, i));
    most = std::max(most, ElementAt(spec.type, array, i));
  }
  const double range = most > least ? most - least : 1;
  const int shades = static_cast<int>(sizeof(kShades)) - 1;
  std::string picture;
  for (int64_t row = 0; row < shape[0]; ++row) {
    std::string line;
    for (int64_t column = 0; column < shape[1]; ++column) {
      const double value = (ElementAt(spec.type, array, row * shape[1] + column) - least) / range;
      line += kShades[std::clamp(static_cast<int>(value * shades), 0, shades - 1)];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    picture += line + "\n";
  }
  return picture;
}

}  // namespace lockstep
