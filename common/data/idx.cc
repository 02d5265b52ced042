#include "common/data/idx.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/data/input_file.h"

namespace lockstep {
namespace {

constexpr char kCopyAgain[] = "; copy or download the file again";

struct TypeCode {
  uint8_t code;
  ElementType type;
  const char* name;
};
constexpr TypeCode kTypes[] = {
    {kIdxU8, ElementType::kU8, "u8"}, {0x09, ElementType::kI8, "i8"},   {0x0B, ElementType::kI16, "i16"},
    {0x0C, ElementType::kI32, "i32"}, {0x0D, ElementType::kF32, "f32"}, {0x0E, ElementType::kF64, "f64"},
};

absl::Status Bad(const std::string& path, int64_t byte, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": byte ", byte, ": ", what));
}

std::string ArrayText(const IdxArray& array) {
  const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](auto& t) { return t.type == array.type; });
  return absl::StrCat(DimsText(array.dims), " ", type->name);
}

template <typename Word>
void ToMachineOrder(std::byte* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i, values += sizeof(Word)) {
    Word word = 0;
    for (size_t b = 0; b < sizeof(Word); ++b) word = static_cast<Word>(word << 8 | std::to_integer<Word>(values[b]));
    memcpy(values, &word, sizeof word);
  }
}

absl::Status ReadHeaderBytes(InputFile* file, const std::string& path, int64_t at, std::byte* out, int64_t size) {
  ASSIGN_OR_RETURN(const int64_t got, file->Read(out, size));
  if (got == size) return absl::OkStatus();
  return Bad(path, at + got, absl::StrCat("the file ends inside its IDX header", kCopyAgain));
}

// Type and rank.
absl::Status ReadMagic(InputFile* file, const std::string& path, IdxArray* array) {
  std::byte raw[4];
  RETURN_IF_ERROR(ReadHeaderBytes(file, path, 0, raw, sizeof raw));
  uint8_t magic[4];
  memcpy(magic, raw, sizeof magic);
  if (magic[0] != 0 || magic[1] != 0) {
    return Bad(path, 0,
               absl::StrFormat("starts with %02x %02x %02x %02x, which is not IDX (00 00 TYPE RANK); "
                               "give an IDX file, plain or gzip",
                               magic[0], magic[1], magic[2], magic[3]));
  }
  const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](auto& t) { return t.code == magic[2]; });
  if (type == std::end(kTypes)) {
    const auto text = [](std::string* out, const TypeCode& t) {
      absl::StrAppendFormat(out, "%02x (%s)", t.code, t.name);
    };
    return Bad(path, 2,
               absl::StrFormat("unknown element type %02x; write the file with one of %s", magic[2],
                               absl::StrJoin(kTypes, ", ", text)));
  }
  if (magic[3] == 0) {
    return Bad(path, 3, "the array has no dimensions; write it with the number of samples as its first");
  }
  array->type = type->type;
  array->dims.resize(magic[3]);
  return absl::OkStatus();
}

absl::Status ReadDims(InputFile* file, const std::string& path, IdxArray* array) {
  std::vector<std::byte> raw(4 * array->dims.size());
  RETURN_IF_ERROR(ReadHeaderBytes(file, path, 4, raw.data(), raw.size()));
  ToMachineOrder<uint32_t>(raw.data(), array->dims.size());
  array->size_bytes = ElementSize(array->type);
  bool fits = true;
  for (size_t i = 0; i < array->dims.size(); ++i) {
    uint32_t dim;
    memcpy(&dim, &raw[4 * i], sizeof dim);
    array->dims[i] = dim;
    if (dim == 0 && i == 0) return Bad(path, 4, "the file holds 0 samples; give one with at least 1");
    if (dim == 0) {
      return Bad(path, 4 + 4 * i,
                 absl::StrCat("dimension ", i + 1, " is 0; write the file with every dimension at least 1"));
    }
    fits = fits && !__builtin_mul_overflow(array->size_bytes, int64_t{dim}, &array->size_bytes);
  }
  if (fits) return absl::OkStatus();
  return Bad(path, 4, absl::StrCat("the header announces ", ArrayText(*array), ", more than 2^63 bytes", kCopyAgain));
}

absl::Status ReadValues(InputFile* file, const std::string& path, IdxArray* array) {
  const int64_t header = 4 + 4 * static_cast<int64_t>(array->dims.size());
  const std::string announced =
      absl::StrCat("its header announces ", ArrayText(*array), ", ", array->size_bytes, " bytes of values");
  if (array->size_bytes > file->MostBytes()) {
    return Bad(path, 4, absl::StrCat("the file is too short: ", announced, kCopyAgain));
  }
  array->values.reset(new (std::nothrow) std::byte[array->size_bytes]);
  if (array->values == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat(path, ": no memory for ", array->size_bytes,
                                                     " bytes of values; use a smaller file or a larger machine"));
  }
  ASSIGN_OR_RETURN(const int64_t got, file->Read(array->values.get(), array->size_bytes));
  if (got < array->size_bytes) {
    return Bad(path, header + got, absl::StrCat("the data ends here, but ", announced, kCopyAgain));
  }
  std::byte beyond;
  ASSIGN_OR_RETURN(const int64_t more, file->Read(&beyond, 1));
  if (more == 0) return absl::OkStatus();
  return Bad(path, header + got, absl::StrCat("the data goes on, but ", announced, kCopyAgain));
}

}  // namespace

std::string DimsText(const std::vector<int64_t>& dims) { return absl::StrJoin(dims, "×"); }

std::string IdxHeader(uint8_t type_code, const std::vector<int64_t>& dims) {
  std::string header = {0, 0, static_cast<char>(type_code), static_cast<char>(dims.size())};
  for (int64_t dim : dims) {
    for (int shift = 24; shift >= 0; shift -= 8) header.push_back(static_cast<char>(dim >> shift));
  }
  return header;
}

absl::StatusOr<IdxArray> ReadIdx(const std::string& path) {
  ASSIGN_OR_RETURN(const auto file, InputFile::Open(path));
  IdxArray array;
  RETURN_IF_ERROR(ReadMagic(file.get(), path, &array));
  RETURN_IF_ERROR(ReadDims(file.get(), path, &array));
  RETURN_IF_ERROR(ReadValues(file.get(), path, &array));
  const int size = ElementSize(array.type);
  if (size == 2) ToMachineOrder<uint16_t>(array.values.get(), array.size_bytes / size);
  if (size == 4) ToMachineOrder<uint32_t>(array.values.get(), array.size_bytes / size);
  if (size == 8) ToMachineOrder<uint64_t>(array.values.get(), array.size_bytes / size);
  return array;
}

}  // namespace lockstep
