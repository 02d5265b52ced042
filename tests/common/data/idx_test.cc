#include "common/data/idx.h"

#include <cstring>
#include <vector>

#include "tests/common/data/data_testing.h"

namespace lockstep {
namespace {

template <typename T>
std::vector<T> Values(const IdxArray& array) {
  std::vector<T> values(array.size_bytes / sizeof(T));
  memcpy(values.data(), array.values.get(), array.size_bytes);
  return values;
}

class IdxTest : public FolderTest {
 protected:
  IdxArray Read(const std::string& data) {
    auto array = ReadIdx(Write("a", data));
    EXPECT_TRUE(array.ok()) << array.status();
    return array.ok() ? *std::move(array) : IdxArray{};
  }

  // The error's message without the path that it begins with.
  std::string ErrorOf(const std::string& data) {
    const auto array = ReadIdx(Write("a", data));
    EXPECT_EQ(array.status().code(), absl::StatusCode::kInvalidArgument) << array.status();
    const std::string message(array.status().message()), start = Path("a") + ": ";
    EXPECT_EQ(message.substr(0, start.size()), start);
    EXPECT_EQ(message.find('\n'), std::string::npos);
    return message.substr(std::min(start.size(), message.size()));
  }
};

TEST_F(IdxTest, EveryTypeIsReadIntoTheMachinesOrder) {
  EXPECT_EQ(Values<uint8_t>(Read(Hex("00000801 00000002 01ff"))), (std::vector<uint8_t>{1, 255}));
  EXPECT_EQ(Values<int8_t>(Read(Hex("00000901 00000002 01ff"))), (std::vector<int8_t>{1, -1}));
  EXPECT_EQ(Values<int16_t>(Read(Hex("00000b01 00000002 0102 fffe"))), (std::vector<int16_t>{258, -2}));
  EXPECT_EQ(Values<int32_t>(Read(Hex("00000c01 00000002 01020304 fffffffd"))), (std::vector<int32_t>{16909060, -3}));
  EXPECT_EQ(Values<float>(Read(Hex("00000d01 00000002 3fc00000 c0000000"))), (std::vector<float>{1.5f, -2.0f}));
  EXPECT_EQ(Values<double>(Read(Hex("00000e01 00000001 3ff8000000000000"))), std::vector<double>{1.5});
}

TEST_F(IdxTest, DimensionsOfAnyRankAreRead) {
  EXPECT_EQ(Read(Hex("00000801 00000001 07")).dims, std::vector<int64_t>{1});
  EXPECT_EQ(Read(Hex("00000804 00000002 00000001 00000003 00000002") + std::string(12, 'x')).dims,
            (std::vector<int64_t>{2, 1, 3, 2}));
  std::string deep = Hex("000008ff");
  for (int i = 0; i < 255; ++i) deep += Hex("00000001");
  EXPECT_EQ(Read(deep + "x").dims, std::vector<int64_t>(255, 1));
}

TEST_F(IdxTest, GzipIsToldByItsBytesAndMayHaveSeveralMembers) {
  const std::string plain = IdxHeader(kIdxU8, {200000}) + std::string(100000, 'a') + std::string(100000, 'b');
  EXPECT_EQ(Values<char>(Read(Gzip(plain))), std::vector<char>(plain.begin() + 8, plain.end()));
  EXPECT_EQ(Values<char>(Read(Gzip(plain.substr(0, 5)) + Gzip(plain.substr(5)))),
            std::vector<char>(plain.begin() + 8, plain.end()));
}

TEST_F(IdxTest, WhatIsNoIdxFileIsRefused) {
  EXPECT_EQ(ErrorOf(""), "byte 0: the file ends inside its IDX header; copy or download the file again");
  EXPECT_EQ(ErrorOf(Hex("000008")), "byte 3: the file ends inside its IDX header; copy or download the file again");
  EXPECT_EQ(ErrorOf(Hex("89504e47 0d0a1a0a")),
            "byte 0: starts with 89 50 4e 47, which is not IDX (00 00 TYPE RANK); give an IDX file, plain or gzip");
  EXPECT_EQ(
      ErrorOf(Hex("00000f01 00000001 0000000000000000")),
      "byte 2: unknown element type 0f; write the file with one of 08 (u8), 09 (i8), 0b (i16), 0c (i32), 0d (f32), "
      "0e (f64)");
  EXPECT_EQ(ErrorOf(Hex("00000800")),
            "byte 3: the array has no dimensions; write it with the number of samples as its first");
}

TEST_F(IdxTest, DimensionsThatCannotBeAreRefused) {
  EXPECT_EQ(ErrorOf(Hex("00000803 0000000a 0000")),
            "byte 10: the file ends inside its IDX header; copy or download the file again");
  EXPECT_EQ(ErrorOf(Hex("00000802 00000000 0000001c")), "byte 4: the file holds 0 samples; give one with at least 1");
  EXPECT_EQ(ErrorOf(Hex("00000803 0000000a 0000001c 00000000")),
            "byte 12: dimension 3 is 0; write the file with every dimension at least 1");
  EXPECT_EQ(
      ErrorOf(Hex("00000e03 ffffffff ffffffff ffffffff")),
      "byte 4: the header announces 4294967295×4294967295×4294967295 f64, more than 2^63 bytes; copy or download the "
      "file again");
}

TEST_F(IdxTest, TooFewAndTooManyValuesAreRefused) {
  EXPECT_EQ(
      ErrorOf(Hex("00000802 0000000a 00000002") + std::string(19, 'x')),
      "byte 31: the data ends here, but its header announces 10×2 u8, 20 bytes of values; copy or download the file "
      "again");
  EXPECT_EQ(
      ErrorOf(Hex("00000b01 00000002") + std::string(5, 'x')),
      "byte 12: the data goes on, but its header announces 2 i16, 4 bytes of values; copy or download the file again");
}

TEST_F(IdxTest, NoMemoryIsTakenForWhatTheFileCannotHold) {
  EXPECT_EQ(
      ErrorOf(Hex("00000803 ffffffff 00000100 00000100") + std::string(100, 'x')),
      "byte 4: the file is too short: its header announces 4294967295×256×256 u8, 281474976645120 bytes of values; "
      "copy or download the file again");
  EXPECT_EQ(
      ErrorOf(Gzip(Hex("00000803 ffffffff 00000100 00000100") + std::string(100, 'x'))),
      "byte 4: the file is too short: its header announces 4294967295×256×256 u8, 281474976645120 bytes of values; "
      "copy or download the file again");
}

TEST_F(IdxTest, AGzipBombIsInflatedNoFurtherThanAnnounced) {
  EXPECT_EQ(
      ErrorOf(Gzip(Hex("00000801 00000002") + std::string(50 << 20, '\0'))),
      "byte 10: the data goes on, but its header announces 2 u8, 2 bytes of values; copy or download the file again");
}

TEST_F(IdxTest, DamagedGzipIsRefusedWithItsPlaceInTheFile) {
  const std::string plain = IdxHeader(kIdxU8, {300}) + std::string(300, 'a'), whole = Gzip(plain);
  const std::string size = std::to_string(whole.size()), cut = std::to_string(whole.size() - 1);
  EXPECT_EQ(ErrorOf(whole.substr(0, whole.size() - 1)),
            "byte " + cut + ": the gzip stream is cut off; copy or download the file again");
  EXPECT_EQ(ErrorOf(whole + "tail"),
            "byte " + size + ": other bytes follow the gzip stream; copy or download the file again");
  std::string checksum = whole;
  checksum[whole.size() - 8] ^= 1;
  EXPECT_EQ(ErrorOf(checksum),
            "byte " + std::to_string(whole.size() - 4) +
                ": the gzip stream is damaged: incorrect data check; copy or download the file again");
  EXPECT_EQ(ErrorOf(Hex("1f8b07")), "byte 3: the gzip stream is cut off; copy or download the file again");
  EXPECT_EQ(ErrorOf(Hex("1f8b07 00000000000000")),
            "byte 4: the gzip stream is damaged: unknown compression method; copy or download the file again");
}

TEST_F(IdxTest, WhatIsNotThereOrNoFileIsRefused) {
  EXPECT_EQ(ReadIdx(Path("none")).status(), absl::NotFoundError(Path("none") + ": No such file or directory"));
  EXPECT_EQ(ReadIdx(folder_).status(), absl::InvalidArgumentError(folder_ + ": not a regular file; give a file"));
}

}  // namespace
}  // namespace lockstep
