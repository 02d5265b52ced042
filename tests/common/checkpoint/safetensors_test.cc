#include "common/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/stable_random.h"
#include "tests/support/temp_folder.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::string LengthBytes(uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i));
  return bytes;
}

// A file of this header and so many bytes of data.
std::string FileOf(const std::string& json, size_t data_bytes = 0) {
  return LengthBytes(json.size()) + json + std::string(data_bytes, 'd');
}

std::string Tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return absl::StrCat("\"", name, "\":{\"dtype\":\"", dtype, "\",\"shape\":", shape, ",\"data_offsets\":", offsets,
                      "}");
}

struct Case {
  const char* name;
  std::string bytes;
  std::string message;
};
std::ostream& operator<<(std::ostream& out, const Case& one) { return out << one.name; }

const std::vector<Case>& Cases() {
  const std::string good = Tensor("a", "F32", "[2]", "[0,8]");
  static const auto* const cases = new std::vector<Case>{
      {"Empty", "", "the file has 0 bytes, fewer than 8"},
      {"SevenBytes", "1234567", "the file has 7 bytes, fewer than 8"},
      {"HeaderBeyondTheFile", LengthBytes(3) + "{}", "its length is 3 bytes, but the file ends after 10"},
      {"HeaderBeyondTheCap", LengthBytes(100'000'001) + "{}",
       "its length is 100000001 bytes, more than the format's 100000000"},
      {"LargestLength", LengthBytes(~uint64_t{0}) + "{}",
       "its length is 18446744073709551615 bytes, more than the format's 100000000"},
      {"NoHeader", FileOf(""), "it does not begin with '{'; this is no safetensors file"},
      {"SpaceFirst", FileOf(" {}"), "it does not begin with '{'; this is no safetensors file"},
      {"AnotherFormat", FileOf("PK\x03\x04"), "it does not begin with '{'; this is no safetensors file"},
      {"CutJson", FileOf("{\"a\":"), "not valid JSON at byte 14"},
      {"TwoObjects", FileOf("{}{}"), "not valid JSON at byte 11"},
      {"NulPadding", FileOf(std::string("{}\0", 3)), "not valid JSON at byte 11"},
      {"BrokenUtf8", FileOf("{\"\xff\":1}"), "not valid JSON at byte 11"},
      {"TensorIsANumber", FileOf("{\"a\":1}"), "'a' is a number, not an object"},
      {"TensorIsAnArray", FileOf("{\"a\":[]}"), "'a' is an array, not an object"},
      {"NameTwice", FileOf("{" + good + "," + good + "}", 8), "'a' stands there twice"},
      {"MetadataTwice", FileOf("{\"__metadata__\":{},\"__metadata__\":{}}"), "'__metadata__' stands there twice"},
      {"MetadataKeyTwice", FileOf("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}"), "metadata 'k' stands there twice"},
      {"MetadataIsAString", FileOf("{\"__metadata__\":\"x\"}"), "'__metadata__' is a string, not an object"},
      {"MetadataHoldsANumber", FileOf("{\"__metadata__\":{\"k\":1}}"), "metadata 'k' is a number, not a string"},
      {"MetadataHoldsAnObject", FileOf("{\"__metadata__\":{\"k\":{}}}"), "metadata 'k' is an object, not a string"},
      {"MetadataIsNull", FileOf("{\"__metadata__\":null}"), "'__metadata__' is null, not an object"},
      {"UnknownField", FileOf("{\"a\":{\"dtype\":\"F32\",\"strides\":[]}}"),
       "tensor 'a' has an unknown field 'strides'"},
      {"FieldTwice", FileOf("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}"), "tensor 'a' has its dtype twice"},
      {"NoDType", FileOf("{\"a\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4), "tensor 'a' has no dtype"},
      {"NoShape", FileOf("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4), "tensor 'a' has no shape"},
      {"NoOffsets", FileOf("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 4), "tensor 'a' has no data_offsets"},
      {"UnknownDType", FileOf("{" + Tensor("a", "F8_E4M3", "[2]", "[0,2]") + "}", 2),
       "tensor 'a' has dtype 'F8_E4M3', which is none of F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL"},
      {"DTypeInLowerCase", FileOf("{" + Tensor("a", "f32", "[2]", "[0,8]") + "}", 8),
       "tensor 'a' has dtype 'f32', which is none of F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL"},
      {"DTypeIsANumber", FileOf("{\"a\":{\"dtype\":1}}"), "dtype of tensor 'a' holds a number"},
      {"ShapeIsAString", FileOf("{\"a\":{\"shape\":\"2\"}}"), "shape of tensor 'a' holds a string"},
      {"ShapeIsNegative", FileOf("{" + Tensor("a", "F32", "[-2]", "[0,8]") + "}", 8),
       "shape of tensor 'a' holds a negative number"},
      {"ShapeIsAFraction", FileOf("{" + Tensor("a", "F32", "[2.0]", "[0,8]") + "}", 8),
       "shape of tensor 'a' holds a number that is not whole or too large"},
      {"ShapeHoldsABoolean", FileOf("{" + Tensor("a", "F32", "[true]", "[0,8]") + "}", 8),
       "shape of tensor 'a' holds a boolean"},
      {"ShapeBeyondSixtyThreeBits", FileOf("{" + Tensor("a", "U8", "[9223372036854775808]", "[0,8]") + "}", 8),
       "shape of tensor 'a' holds a number that is too large"},
      {"ShapeBeyondSixtyFourBits", FileOf("{" + Tensor("a", "U8", "[99999999999999999999]", "[0,8]") + "}", 8),
       "shape of tensor 'a' holds a number that is not whole or too large"},
      {"ShapeOverflows", FileOf("{" + Tensor("a", "F32", "[4294967296,4294967296]", "[0,0]") + "}"),
       "tensor 'a' has a shape of more than 2^63 bytes"},
      {"ShapeOverflowsByItsDType", FileOf("{" + Tensor("a", "F64", "[1152921504606846976]", "[0,0]") + "}"),
       "tensor 'a' has a shape of more than 2^63 bytes"},
      {"OneOffset", FileOf("{" + Tensor("a", "F32", "[2]", "[8]") + "}", 8), "tensor 'a' needs two data_offsets"},
      {"ThreeOffsets", FileOf("{" + Tensor("a", "F32", "[2]", "[0,8,8]") + "}", 8),
       "data_offsets of tensor 'a' holds a third offset"},
      {"OffsetsNested", FileOf("{" + Tensor("a", "F32", "[2]", "[[0,8]]") + "}", 8),
       "data_offsets of tensor 'a' holds an array"},
      {"OffsetsBackwards", FileOf("{" + Tensor("a", "F32", "[2]", "[8,0]") + "}", 8),
       "tensor 'a': F32 [2] is 8 bytes, but its data_offsets are 8 to 0"},
      {"SizeDiffers", FileOf("{" + Tensor("a", "F32", "[3]", "[0,8]") + "}", 8),
       "tensor 'a': F32 [3] is 12 bytes, but its data_offsets are 0 to 8"},
      {"Gap", FileOf("{" + good + "," + Tensor("b", "U8", "[1]", "[9,10]") + "}", 10),
       "tensor 'b' begins at 9, but the one before ends at 8"},
      {"Overlap", FileOf("{" + good + "," + Tensor("b", "U8", "[2]", "[7,9]") + "}", 9),
       "tensor 'b' begins at 7, but the one before ends at 8"},
      {"SameBytesTwice", FileOf("{" + good + "," + Tensor("b", "F32", "[2]", "[0,8]") + "}", 8),
       "tensor 'b' begins at 0, but the one before ends at 8"},
      {"NotFromZero", FileOf("{" + Tensor("a", "U8", "[1]", "[1,2]") + "}", 2),
       "tensor 'a' begins at 1, but the one before ends at 0"},
      {"DataCutOff", FileOf("{" + good + "}", 7),
       "the tensors are 8 bytes, but the file has 7 after its header; it is cut off or damaged"},
      {"DataTooLong", FileOf("{" + good + "}", 9),
       "the tensors are 8 bytes, but the file has 9 after its header; it is cut off or damaged"},
      {"DataWithoutTensors", FileOf("{}", 1),
       "the tensors are 0 bytes, but the file has 1 after its header; it is cut off or damaged"},
      {"DeepArrays", FileOf("{\"a\":{\"shape\":" + std::string(1000000, '[')), "shape of tensor 'a' holds an array"},
      {"DeepObjects", FileOf("{\"a\":{\"dtype\":{\"a\":{"), "dtype of tensor 'a' holds an object"},
      {"LongName", FileOf("{\"" + std::string(100000, 'n') + "\":1}"),
       absl::StrCat("'", std::string(80, 'n'), "…' is a number, not an object")},
      {"NameWithALineBreak", FileOf("{\"a\\nb\":1}"), "'a\\nb' is a number, not an object"},
  };
  return *cases;
}

class SafetensorsErrorTest : public testing::TestWithParam<Case> {};

TEST_P(SafetensorsErrorTest, SaysWhatIsWrongAndWhere) {
  const auto file = ParseSafetensors(GetParam().bytes);
  EXPECT_EQ(file.status(), absl::InvalidArgumentError("safetensors header: " + GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(Corrupt, SafetensorsErrorTest, testing::ValuesIn(Cases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(SafetensorsTest, TheHeaderIsReadFromTheFilesBeginning) {
  const std::string file = FileOf("{" + Tensor("a", "F32", "[2]", "[0,8]") + "}", 8);
  const int64_t bytes = file.size(), header = bytes - 8;
  for (int64_t have = 0; have <= bytes; ++have) {
    const auto parsed = ParseSafetensorsHeader(file.substr(0, have), bytes);
    EXPECT_EQ(parsed.status().code(), have < header ? absl::StatusCode::kOutOfRange : absl::StatusCode::kOk) << have;
    if (parsed.ok()) {
      EXPECT_EQ(parsed->data_offset, header);
    }
  }
}

TEST(SafetensorsTest, TensorsComeInTheOrderOfTheirBytes) {
  const auto file = ParseSafetensors(
      FileOf("{" + Tensor("late", "U8", "[2,1]", "[3,5]") + "," + Tensor("none", "F64", "[3,0]", "[3,3]") + "," +
                 Tensor("early", "BOOL", "[3]", "[0,3]") + ",\"__metadata__\":{\"format\":\"pt\"}}   ",
             5));
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<std::string> names;
  for (const TensorInfo& tensor : file->header.tensors) names.push_back(tensor.name);
  EXPECT_THAT(names, ElementsAre("early", "none", "late"));
  EXPECT_THAT(file->header.tensors[1].shape, ElementsAre(3, 0));
  EXPECT_EQ(file->header.metadata.at("format"), "pt");
  EXPECT_EQ(file->header.data_bytes, 5);
  EXPECT_EQ(file->Find("late")->begin, 3);
  EXPECT_EQ(file->Find("later"), nullptr);
}

TEST(SafetensorsTest, ATensorWithoutADimensionHasOneElement) {
  const auto file = ParseSafetensors(FileOf("{" + Tensor("step", "I64", "[]", "[0,8]") + "}", 8));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(file->header.tensors[0].shape, IsEmpty());
  EXPECT_EQ(file->data(file->header.tensors[0]), "dddddddd");
}

TEST(SafetensorsTest, WhatIsWrittenIsReadBack) {
  std::vector<TensorInfo> tensors = {
      {"0.weight", "F32", {2, 3}}, {"é\"\\\n", "BF16", {5}}, {"empty", "F64", {0}}, {"b", "U8", {1}}};
  const auto header = MakeSafetensorsHeader(&tensors, {{"format", "pt"}, {"\"", "\n"}});
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->size() % 8, 0);
  EXPECT_EQ(tensors[3].begin, 34);
  EXPECT_EQ(tensors[3].end, 35);
  const auto file = ParseSafetensors(*header + std::string(35, 'x'));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->header.tensors.size(), 4);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorInfo* tensor = file->Find(tensors[i].name);
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->dtype, tensors[i].dtype);
    EXPECT_EQ(tensor->shape, tensors[i].shape);
    EXPECT_EQ(tensor->begin, tensors[i].begin);
    EXPECT_EQ(tensor->end, tensors[i].end);
  }
  EXPECT_EQ(file->header.metadata, (std::map<std::string, std::string>{{"format", "pt"}, {"\"", "\n"}}));
}

TEST(SafetensorsTest, TheWriterRefusesWhatItCouldNotRead) {
  const auto error = [](std::vector<TensorInfo> tensors, const std::map<std::string, std::string>& metadata = {}) {
    return std::string(MakeSafetensorsHeader(&tensors, metadata).status().message());
  };
  EXPECT_EQ(error({{"a", "F31", {}}}),
            "safetensors header: tensor 'a' has dtype 'F31', which is none of F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL");
  EXPECT_EQ(error({{"a", "F32", {-1}}}), "safetensors header: tensor 'a' has a negative size in its shape");
  EXPECT_EQ(error({{"a", "F32", {}}, {"a", "F32", {}}}), "safetensors header: 'a' stands there twice");
  EXPECT_EQ(error({{"__metadata__", "F32", {}}}), "safetensors header: no tensor can be called __metadata__");
  EXPECT_EQ(error({{"a", "F32", {int64_t{1} << 62}}}),
            "safetensors header: tensor 'a' has a shape of more than 2^63 bytes");
  EXPECT_EQ(error({{"a", "U8", {int64_t{1} << 62}}, {"b", "U8", {int64_t{1} << 62}}}),
            "safetensors header: the tensors are more than 2^63 bytes");
  EXPECT_EQ(error({{"a\xff", "U8", {}}}), "safetensors header: a name or metadata is not UTF-8 text; rename it");
  EXPECT_EQ(error({}, {{"k", "\xff"}}), "safetensors header: a name or metadata is not UTF-8 text; rename it");
}

TEST(SafetensorsTest, AFileIsReadFromTheDisk) {
  const TempFolder folder;
  const std::string path = folder.Write("x.safetensors", FileOf("{" + Tensor("a", "U8", "[3]", "[0,3]") + "}", 3));
  auto file = ReadSafetensors(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const SafetensorsFile moved = *std::move(file);
  EXPECT_EQ(moved.data(*moved.Find("a")), "ddd");
  folder.Write("x.safetensors", "x");
  EXPECT_EQ(ReadSafetensors(path).status().message(),
            path + ": safetensors header: the file has 1 bytes, fewer than 8");
  EXPECT_EQ(ReadSafetensors(folder / "y").status().code(), absl::StatusCode::kNotFound);
}

std::string OutputOf(const std::string& command) {
  std::string output;
  FILE* pipe = popen(command.c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  std::array<char, 4096> buffer;
  while (const size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) output.append(buffer.data(), n);
  EXPECT_EQ(pclose(pipe), 0) << command;
  return output;
}

template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

TEST(SafetensorsTest, AnIndependentReaderFindsTheSame) {
  std::vector<TensorInfo> tensors = {{"0.weight", "F32", {2, 3}},
                                     {"0.bias", "F64", {2}},
                                     {"count", "I64", {}},
                                     {"none", "F32", {0, 4}},
                                     {"mask", "BOOL", {3}}};
  const auto header = MakeSafetensorsHeader(&tensors, {{"format", "pt"}});
  ASSERT_TRUE(header.ok());
  const TempFolder folder;
  const std::string path =
      folder.Write("x.safetensors", *header + BytesOf<float>({0.5f, -1.0f, 2.0f, 3.25f, 4.0f, 1e10f}) +
                                        BytesOf<double>({0.1, -2.0}) + BytesOf<int64_t>({-(int64_t{1} << 40)}) +
                                        std::string("\1\0\1", 3));
  EXPECT_EQ(OutputOf("python3 tests/common/checkpoint/read_safetensors.py " + path),
            "# format = pt\n"
            "0.weight F32 [2, 3] [0.5, -1.0, 2.0, 3.25, 4.0, 10000000000.0]\n"
            "0.bias F64 [2] [0.1, -2.0]\n"
            "count I64 [] [-1099511627776]\n"
            "none F32 [0, 4] []\n"
            "mask BOOL [3] [True, False, True]\n");
}

// Every file that is accepted has tensors that lie within it, in order, without a gap.
void ExpectSound(const SafetensorsFile& file) {
  int64_t at = 0;
  for (const TensorInfo& tensor : file.header.tensors) {
    ASSERT_EQ(tensor.begin, at);
    int64_t bytes = DTypeSize(tensor.dtype);
    for (const int64_t size : tensor.shape) bytes *= size;
    ASSERT_EQ(tensor.end - tensor.begin, bytes);
    ASSERT_EQ(static_cast<int64_t>(file.data(tensor).size()), bytes);
    at = tensor.end;
  }
  ASSERT_EQ(file.header.data_offset + at, static_cast<int64_t>(file.bytes.size()));
}

TEST(SafetensorsFuzzTest, BrokenFilesAreRefusedOrSound) {
  const std::string seed =
      FileOf("{\"__metadata__\":{\"format\":\"pt\"}," + Tensor("a", "F32", "[2,2]", "[0,16]") + "," +
                 Tensor("b", "I64", "[]", "[16,24]") + "," + Tensor("c", "U8", "[0]", "[24,24]") + "}",
             24);
  static const std::vector<std::string> pieces = {"{", "}", "[",  "]",   "\"",   ",",   ":",
                                                  "0", "9", "-1", "1e9", "null", "F64", "\\u0000"};
  StableRandom random(Mix({30}));
  int accepted = 0;
  for (int i = 0; i < 30000; ++i) {
    std::string bytes = seed;
    for (uint64_t changes = 1 + random.Below(3); changes > 0 && !bytes.empty(); --changes) {
      const size_t at = random.Below(bytes.size());
      switch (random.Below(5)) {
        case 0:
          bytes[at] = static_cast<char>(random.Below(256));
          break;
        case 1:
          bytes[at] = seed[random.Below(seed.size())];
          break;
        case 2:
          bytes.erase(at, 1 + random.Below(8));
          break;
        case 3:
          bytes.insert(at, pieces[random.Below(pieces.size())]);
          break;
        default:
          bytes.resize(1 + at);
          break;
      }
    }
    // Half of them with a length that fits, so that mutations get past it.
    const size_t end = bytes.rfind('}');
    if (i % 2 == 0 && end != std::string::npos && end > 8) bytes.replace(0, 8, LengthBytes(end - 7));
    const auto file = ParseSafetensors(bytes);
    if (file.ok()) {
      ++accepted;
      ASSERT_NO_FATAL_FAILURE(ExpectSound(*file));
    } else {
      ASSERT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument) << file.status();
      ASSERT_EQ(file.status().message().find('\n'), absl::string_view::npos) << file.status();
    }
  }
  EXPECT_GT(accepted, 500);
  EXPECT_LT(accepted, 15000);
}

}  // namespace
}  // namespace lockstep
